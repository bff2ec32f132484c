// SPDX-License-Identifier: MIT
/// @file
/// Who watches a call go through its layers.
#pragma once

#include "vfio_shim/units.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace vfio_shim {

/// What lies behind a stretch of client memory.
enum class MemoryKind : std::uint8_t {
  unknown,   ///< A hole, or nobody could be asked.
  anonymous, ///< Private memory of no file.
  shmem,     ///< A memfd, or a file of a tmpfs.
  hugetlb,   ///< Huge pages that were set aside: of a hugetlbfs file or of none.
  file,      ///< A file of some other file system.
  device,    ///< A device's: a BAR, in all likelihood.
};

/// One stretch of client memory that a call is about.
struct MemoryNote {
  Bytes size;
  Bytes page_size; ///< Of the VMA. Huge pages that the kernel made by itself (THP) do not show.
  MemoryKind kind = MemoryKind::unknown;
  bool shared = false;  ///< Mapped shared in the client.
  bool by_file = false; ///< Can be mapped by file; if not, the client's thread must be borrowed.
};

/// Told what a call goes through, by the layers that it passes, in the thread that serves it.
///
/// The methods do nothing unless overridden. They must not block and cannot fail: nothing that
/// watches a call may disturb it.
class CallWitness {
public:
  CallWitness() = default;
  CallWitness(const CallWitness &) = delete;
  CallWitness &operator=(const CallWitness &) = delete;
  virtual ~CallWitness() = default;

  /// Who watches the call that the calling thread serves; somebody who does not care if nobody
  /// does.
  static CallWitness &current();

  /// Memory of the client was read or written.
  virtual void was_read(ClientAddr /*from*/, std::span<const std::byte> /*bytes*/) {}
  virtual void was_written(ClientAddr /*to*/, std::span<const std::byte> /*bytes*/) {}
  /// What is to be mapped, stretch by stretch.
  virtual void found_memory(const MemoryNote & /*note*/) {}

  /// A descriptor that the client named turned out to be the node's open file of that number.
  virtual void recognised_file(FileNumber /*number*/) {}

  /// The client's thread is about to be borrowed, and has been given back.
  virtual void borrow_begins() {}
  virtual void borrow_ended() {}
  /// The kernel is about to be asked to do something, and has done it.
  /// @param error 0, or the errno.
  virtual void kernel_entered(unsigned long /*command*/) {}
  virtual void kernel_left(unsigned long /*command*/, int /*error*/) {}
};

/// Makes @p witness the calling thread's, as long as this object lives.
class WitnessScope {
public:
  explicit WitnessScope(CallWitness &witness);
  WitnessScope(const WitnessScope &) = delete;
  WitnessScope &operator=(const WitnessScope &) = delete;
  ~WitnessScope();

private:
  CallWitness *before_;
};

} // namespace vfio_shim
