// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include <linux/vfio.h>

#include "answer.h"
#include "fd.h"
#include "units.h"

namespace legacy {

/// A region of a device mapped into this process. Unmaps itself.
class MappedRegion {
public:
  MappedRegion(int device_fd, std::uint64_t offset, Bytes size);
  MappedRegion(MappedRegion &&other) noexcept;
  MappedRegion &operator=(MappedRegion &&) = delete;
  ~MappedRegion();

  std::byte *data() const { return data_; }
  Bytes size() const { return size_; }

  /// One 32-bit access at `offset`.
  std::uint32_t read32(std::size_t offset) const;
  void write32(std::size_t offset, std::uint32_t value) const;
  /// One 64-bit access at `offset`.
  void write64(std::size_t offset, std::uint64_t value) const;

private:
  std::byte *data_;
  Bytes size_;
};

/// An eventfd that counts a device's interrupts.
class InterruptCounter {
public:
  InterruptCounter();

  int fd() const { return fd_.number(); }
  /// Waits until at least one interrupt has come and answers how many did; 0 after `patience`.
  std::uint64_t wait(std::chrono::milliseconds patience) const;

private:
  Fd fd_;
};

/// A VFIO device fd, as VFIO_GROUP_GET_DEVICE_FD gives it.
class Device {
public:
  explicit Device(Fd fd) : fd_{std::move(fd)} {}

  const Fd &fd() const { return fd_; }
  void close() { fd_.close(); }

  /// VFIO_DEVICE_GET_INFO. Throws std::system_error.
  vfio_device_info info() const;
  /// VFIO_DEVICE_GET_REGION_INFO, without its capabilities. Throws std::system_error.
  vfio_region_info region(std::uint32_t index) const;
  /// VFIO_DEVICE_GET_IRQ_INFO. Throws std::system_error.
  vfio_irq_info irq(std::uint32_t index) const;

  /// Maps all of region `index`. Throws std::system_error.
  MappedRegion map_region(std::uint32_t index) const;
  /// pread/pwrite within region `index`: answer the number of bytes moved.
  Answer read_region(std::uint32_t index, std::uint64_t offset, std::span<std::byte> into) const;
  Answer write_region(std::uint32_t index, std::uint64_t offset,
                      std::span<const std::byte> from) const;

  /// The configuration space. Throw std::system_error.
  std::uint16_t config16(std::uint64_t offset) const;
  void set_config16(std::uint64_t offset, std::uint16_t value) const;
  /// Turns memory decoding and bus mastering on in the PCI command register.
  void enable_memory_and_dma() const;

  /// VFIO_DEVICE_SET_IRQS: interrupt 0 of `index` (VFIO_PCI_MSI_IRQ_INDEX...) signals `counter`.
  Answer signal_interrupts(std::uint32_t index, const InterruptCounter &counter) const;
  /// VFIO_DEVICE_SET_IRQS: turns the interrupts of `index` off.
  Answer disable_interrupts(std::uint32_t index) const;
  Answer reset() const;

private:
  Fd fd_;
};

} // namespace legacy
