// SPDX-License-Identifier: MIT
/// @file
/// The process whose call is being served, as the rules of the legacy API need it.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace vfio_shim {

class Container;

namespace topology {
struct Device;
}

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
  /// Without a file: the client itself had better pin it. Pages are missing, which somebody else
  /// might have to wait for, or there are very many small ones.
  bool pin_in_client = false;
};

/// How a file of ours gets into the client for an ioctl.
enum class Lending : std::uint8_t {
  openly,   ///< It may stay there, and the client may do with it what it likes.
  privately ///< Nothing but that ioctl reaches it.
};

/// An address space, and the terms on which its memory is pinned.
struct AddressSpaceId {
  std::uint64_t number = 0;  ///< Of the address space: another one after each exec.
  std::uint64_t process = 0; ///< Whose it is.
  bool charged = false;      ///< Pinned memory counts against the process's limit.

  friend bool operator==(const AddressSpaceId &, const AddressSpaceId &) = default;
};

/// What a call is about to change, noted beforehand: whoever takes over from a process that dies
/// in the call finishes it or undoes it by this.
struct Intention {
  enum class Kind : std::uint32_t {
    none,
    map,              ///< range and vaddr are to be mapped.
    unmap,            ///< All of range is to go; the answer is size.
    report_and_unmap, ///< The mapping in range has been reported, and goes; the answer is size.
    take_vaddr,       ///< The mappings in range lose their vaddr; the answer is size.
    give_vaddr,       ///< The mapping in range gets vaddr.
    set_iommu,
    join,  ///< Of a group, which is in no container yet.
    leave, ///< Of a group, which is in one.
    done   ///< Nothing but to answer; the answer is size.
  };

  Kind kind = Kind::none;
  IovaRange range{};
  ClientAddr vaddr{};
  Bytes size{};
};

/// What has become of a call whose first server died in it.
struct Outcome {
  bool carried_out; ///< Nothing but the answer is missing.
  Bytes size;       ///< Intention::size; 0: it has not come that far.
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

  /// Notes what the call is about to change, in the place of what was noted before.
  virtual void about_to(const Intention & /*intention*/) {}

  /// What has become of this call already. Nothing: this is the first time.
  virtual std::optional<Outcome> outcome() const { return std::nullopt; }

  /// Copies memory of the client to @p to. @return EFAULT if any byte cannot be read.
  virtual Result<void> read(ClientAddr from, std::span<std::byte> to) = 0;

  /// Copies @p from to the client's memory. @return EFAULT if any byte cannot be written.
  virtual Result<void> write(ClientAddr to, std::span<const std::byte> from) = 0;

  /// Issues ioctl(@p file, @p command, @p argument) from within the client's address space.
  ///
  /// @param lending What else may become of @p file in the client.
  /// @return The ioctl's own errno; EBUSY if the client cannot be borrowed because it is being
  ///         debugged; ESRCH if it died meanwhile (then nothing is known of the outcome).
  virtual Result<void> ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                                       std::span<const std::byte> argument) = 0;

  /// The address space that the calling thread has now. Never two of that number, whatever becomes
  /// of the process.
  /// @return EOPNOTSUPP: it is not to be known again. As ioctl_in_client() otherwise.
  virtual Result<AddressSpaceId> address_space() {
    return fail(EOPNOTSUPP, "a client whose address space is not told from others");
  }

  /// The numbers of the physical pages at [@p start, @p start + @p size) now, of 4 KiB each.
  /// Nothing if one is not in memory, or it cannot be told.
  virtual std::vector<std::uint64_t> physical_pages(ClientAddr /*start*/, Bytes /*size*/) {
    return {};
  }

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

  /// Puts a container of ours in the place of the client's descriptor @p number, if that is a
  /// container of somebody else's which ours may replace. @param file A copy of the descriptor.
  /// @return The container. Nothing: it is no such file. EBADFD: it is in use already. As
  ///         put_in_place() otherwise.
  virtual Result<std::shared_ptr<Container>> container_in_place_of(ClientFd /*number*/,
                                                                   const Fd & /*file*/) {
    return nullptr;
  }

  /// Installs @p file in the client, close-on-exec. @return Its number there; EMFILE as open()
  /// does.
  virtual Result<ClientFd> hand_over(const Fd &file) = 0;

  /// Tells others whom the client may have use its device, if there are any, that it was given
  /// @p device: KVM. To be called after hand_over().
  virtual void device_given(GroupId /*group*/, const topology::Device & /*device*/) {}

  /// The same for their end: the devices of @p group are closed.
  virtual void group_left(GroupId /*group*/) {}

  /// Puts @p file in the place of the client's descriptor that the call is on, if that is a file of
  /// @p container still.
  /// @return EOPNOTSUPP: not in this client. ESRCH: it died meanwhile, or nobody knows whether it
  ///         has @p file. After any other error it has not.
  virtual Result<void> put_in_place(const Fd & /*file*/, const Container & /*container*/) {
    return fail(EOPNOTSUPP, "a client whose descriptors are not ours to replace");
  }
};

} // namespace vfio_shim
