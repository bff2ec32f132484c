/// @file
/// Giving a descriptor to a client through its borrowed thread.
#pragma once

#include "client/borrowed_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::client {

/// A copy of descriptor @p number of the process behind @p process.
/// @return EBADF: it has none of that number.
Result<Fd> copy_descriptor(const Fd &process, ClientFd number);

/// A descriptor of ours in the client, by way of a socket pair that needs no name and no place
/// which both can see. Unless kept, the destructor closes it there.
class DescriptorInClient {
public:
  /// Installs @p file, close-on-exec.
  /// @param process A pidfd of the thread's process.
  /// @return EMFILE, ENFILE as the client's own open() would.
  static Result<DescriptorInClient> install(BorrowedThread &thread, const Fd &process,
                                            const Fd &file);

  DescriptorInClient(DescriptorInClient &&other) noexcept;
  DescriptorInClient(const DescriptorInClient &) = delete;
  DescriptorInClient &operator=(const DescriptorInClient &) = delete;
  DescriptorInClient &operator=(DescriptorInClient &&) = delete;
  ~DescriptorInClient();

  /// Its number in the client.
  ClientFd number() const { return number_; }

  /// Leaves it to the client, as the lowest free number, and closes what carried it there.
  Result<ClientFd> keep();

private:
  DescriptorInClient(BorrowedThread &thread, ClientFd first_socket, ClientFd second_socket,
                     ClientFd number)
      : thread_(&thread),
        first_socket_(first_socket),
        second_socket_(second_socket),
        number_(number) {}

  BorrowedThread *thread_;
  ClientFd first_socket_;
  ClientFd second_socket_;
  ClientFd number_;
};

} // namespace vfio_shim::client
