/// @file
/// The process whose call is being served, as the rules of the legacy API need it.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace vfio_shim {

class Container;

/// A stretch of client memory that a file holds: it can be mapped by file, whoever calls.
struct FilePart {
  Fd file;
  Bytes offset; ///< Where in the file the stretch begins.
};

/// A stretch of client memory with one kind of backing.
struct MemoryPart {
  ClientAddr start;
  Bytes size;
  FilePart by_file; ///< No file: the stretch must be pinned through the client's own address space.
};

/// The calling process and thread.
///
/// The shim implements it with process_vm_readv() and a borrowed thread; a program that embeds
/// libvfio_compat, with its own memory (OwnProcess). Every method may block; none throws.
class Client {
public:
  Client() = default;
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;
  virtual ~Client() = default;

  /// "qemu-system-x86[1234]", for the log.
  virtual std::string describe() const = 0;

  /// The process that calls.
  virtual Pid pid() const = 0;

  /// A pidfd of the process that calls: it tells of the end of the whole process.
  virtual Result<Fd> process() = 0;

  /// Copies memory of the client to @p to. @return EFAULT if any byte cannot be read.
  virtual Result<void> read(ClientAddr from, std::span<std::byte> to) = 0;

  /// Copies @p from to the client's memory. @return EFAULT if any byte cannot be written.
  virtual Result<void> write(ClientAddr to, std::span<const std::byte> from) = 0;

  /// Issues ioctl(@p file, @p command, @p argument) from within the client's address space.
  ///
  /// @return The ioctl's own errno; EBUSY if the client cannot be borrowed because it is being
  ///         debugged; ESRCH if it died meanwhile (then nothing is known of the outcome).
  virtual Result<void> ioctl_in_client(const Fd &file, unsigned long command,
                                       std::span<const std::byte> argument) = 0;

  /// Divides [@p start, @p start + @p size) by the kind of memory there.
  ///
  /// A stretch is given with its file only if the client may @p access it as asked, and if pinning
  /// it in the client's place charges no limit that binds the client; everything else, holes
  /// included, comes without a file.
  virtual Result<std::vector<MemoryPart>> memory_parts(ClientAddr start, Bytes size,
                                                       Access access) = 0;

  /// A copy of the client's file descriptor. @return EBADF if it has none of that number.
  virtual Result<Fd> copy_of(ClientFd number) = 0;

  /// The container that @p file is an open file of, or nothing if it is another kind of file.
  /// @return ENOMEM: it cannot be told.
  virtual Result<std::shared_ptr<Container>> container_behind(const Fd &file) = 0;

  /// Installs @p file in the client, close-on-exec. @return Its number there; EMFILE as open()
  /// does.
  virtual Result<ClientFd> hand_over(const Fd &file) = 0;
};

} // namespace vfio_shim
