// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "device.h"
#include "units.h"

namespace legacy {

/// Drives QEMU's "edu" PCI device, whose DMA engine moves bytes between RAM and a buffer inside the
/// device.
///
/// Each transfer takes the device 100 ms of guest time. The engine sees IOVAs below 256 MiB
/// only. Of its 4096 byte buffer at most 4095 bytes can be moved at once: at 4096 QEMU 7.2
/// aborts the whole machine, so this class refuses it.
class Edu {
public:
  /// The most one transfer moves.
  static constexpr Bytes largest_transfer{2048};
  /// The first IOVA its engine cannot address.
  static constexpr Iova address_limit{256 << 20};

  /// Turns memory decoding and bus mastering on and maps BAR 0. Throws std::system_error.
  /// The device must outlive this object only while it is constructed.
  explicit Edu(const Device &device);

  /// Identification: 0xRRrr00ed.
  std::uint32_t id() const;
  /// Writes `value` and reads it back: a living device answers its complement.
  std::uint32_t liveness(std::uint32_t value) const;

  /// DMA from RAM at `from` into the device's buffer. Returns when the engine has stopped, whether
  /// or not the IOMMU let it through. Throws std::runtime_error when it does not stop.
  void fetch(Iova from, Bytes size) const;
  /// DMA from the device's buffer to RAM at `to`; as fetch().
  void store(Iova to, Bytes size) const;
  /// Starts a store and returns at once.
  void start_store(Iova to, Bytes size) const;

  /// Raises an interrupt with these status bits.
  void raise_interrupt(std::uint32_t bits) const;
  std::uint32_t interrupt_status() const;
  void acknowledge_interrupt(std::uint32_t bits) const;

private:
  void start(std::uint64_t source, std::uint64_t destination, Bytes size,
             std::uint64_t command) const;
  void wait_until_stopped() const;

  MappedRegion bar_;
};

} // namespace legacy
