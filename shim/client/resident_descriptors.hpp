/// @file
/// Descriptors of ours that stay in clients from one borrow to the next.
#pragma once

#include "client/borrowed_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <list>
#include <mutex>
#include <optional>

namespace vfio_shim::client {

/// A file of ours in the descriptor table of a client.
struct ResidentDescriptor {
  Fd process; ///< A pidfd of the client.
  Pid pid;
  Fd file; ///< To know it again.
  ClientFd number;
};

/// What stayed behind in clients and is of no more use. Each goes when its client is borrowed the
/// next time, or ends. Thread-safe.
class AbandonedDescriptors {
public:
  void add(std::list<ResidentDescriptor> abandoned);

  /// Closes those in the borrowed thread's process.
  void close_in(BorrowedThread &thread, Pid process);

private:
  std::mutex mutex_;
  std::list<ResidentDescriptor> all_;
};

/// The files that stay in clients because of one open file of a node.
///
/// Carrying a descriptor into a client costs three borrowed system calls more than using one that
/// is there. So it stays: close-on-exec, and above the numbers that programs count with. The client
/// may close it, or put another file there: hence every use begins with a look, and nothing here is
/// more than a hint. Not thread-safe.
class ResidentDescriptors {
public:
  /// @param abandoned Takes over what is left in the end; outlives this.
  explicit ResidentDescriptors(AbandonedDescriptors &abandoned) : abandoned_(abandoned) {}
  ResidentDescriptors(const ResidentDescriptors &) = delete;
  ResidentDescriptors &operator=(const ResidentDescriptors &) = delete;
  ~ResidentDescriptors();

  /// The number that @p file has in the thread's process, if it stayed there or came with fork().
  /// @return EOPNOTSUPP: the kernel cannot compare files (CONFIG_KCMP).
  Result<std::optional<ClientFd>> find(Tid thread, const Fd &file) const;

  /// Installs @p file, and closes what was abandoned in the process.
  /// @param process A pidfd of the thread's process.
  /// @return As install_descriptor().
  Result<ClientFd> install(BorrowedThread &thread, const Fd &process, const Fd &file);

private:
  AbandonedDescriptors &abandoned_;
  std::list<ResidentDescriptor> residents_; ///< The latest last.
};

} // namespace vfio_shim::client
