// SPDX-License-Identifier: MIT
#include "device.h"

#include <array>
#include <cstring>
#include <string>
#include <utility>

#include <linux/pci_regs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace legacy {

MappedRegion::MappedRegion(int device_fd, std::uint64_t offset, Bytes size) : size_{size} {
  void *mapped = ::mmap(nullptr, size.count, PROT_READ | PROT_WRITE, MAP_SHARED, device_fd,
                        static_cast<off_t>(offset));
  if (mapped == MAP_FAILED)
    throw_errno("mmap of a device region");
  data_ = static_cast<std::byte *>(mapped);
}

MappedRegion::MappedRegion(MappedRegion &&other) noexcept
    : data_{std::exchange(other.data_, nullptr)}, size_{other.size_} {}

MappedRegion::~MappedRegion() {
  if (data_ != nullptr)
    ::munmap(data_, size_.count);
}

std::uint32_t MappedRegion::read32(std::size_t offset) const {
  return *reinterpret_cast<volatile std::uint32_t *>(data_ + offset);
}

void MappedRegion::write32(std::size_t offset, std::uint32_t value) const {
  *reinterpret_cast<volatile std::uint32_t *>(data_ + offset) = value;
}

void MappedRegion::write64(std::size_t offset, std::uint64_t value) const {
  *reinterpret_cast<volatile std::uint64_t *>(data_ + offset) = value;
}

InterruptCounter::InterruptCounter()
    : fd_{static_cast<int>(
          Answer::of(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)).or_throw("eventfd"))} {}

std::uint64_t InterruptCounter::wait(std::chrono::milliseconds patience) const {
  pollfd poll{fd(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(patience.count())) != 1)
    return 0;
  std::uint64_t count = 0;
  return ::read(fd(), &count, sizeof(count)) == sizeof(count) ? count : 0;
}

vfio_device_info Device::info() const {
  vfio_device_info info{};
  info.argsz = sizeof(info);
  fd_.ioctl(VFIO_DEVICE_GET_INFO, &info).or_throw("VFIO_DEVICE_GET_INFO");
  return info;
}

vfio_region_info Device::region(std::uint32_t index) const {
  vfio_region_info info{};
  info.argsz = sizeof(info);
  info.index = index;
  fd_.ioctl(VFIO_DEVICE_GET_REGION_INFO, &info).or_throw("VFIO_DEVICE_GET_REGION_INFO");
  return info;
}

vfio_irq_info Device::irq(std::uint32_t index) const {
  vfio_irq_info info{};
  info.argsz = sizeof(info);
  info.index = index;
  fd_.ioctl(VFIO_DEVICE_GET_IRQ_INFO, &info).or_throw("VFIO_DEVICE_GET_IRQ_INFO");
  return info;
}

MappedRegion Device::map_region(std::uint32_t index) const {
  const vfio_region_info info = region(index);
  return {fd_.number(), info.offset, {info.size}};
}

Answer Device::read_region(std::uint32_t index, std::uint64_t offset,
                           std::span<std::byte> into) const {
  return Answer::of(::pread(fd_.number(), into.data(), into.size(),
                            static_cast<off_t>(region(index).offset + offset)));
}

Answer Device::write_region(std::uint32_t index, std::uint64_t offset,
                            std::span<const std::byte> from) const {
  return Answer::of(::pwrite(fd_.number(), from.data(), from.size(),
                             static_cast<off_t>(region(index).offset + offset)));
}

std::uint16_t Device::config16(std::uint64_t offset) const {
  std::uint16_t value = 0;
  read_region(VFIO_PCI_CONFIG_REGION_INDEX, offset, std::as_writable_bytes(std::span{&value, 1}))
      .or_throw("read the configuration space");
  return value;
}

void Device::set_config16(std::uint64_t offset, std::uint16_t value) const {
  write_region(VFIO_PCI_CONFIG_REGION_INDEX, offset, std::as_bytes(std::span{&value, 1}))
      .or_throw("write the configuration space");
}

void Device::enable_memory_and_dma() const {
  const auto wanted = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
  set_config16(PCI_COMMAND, static_cast<std::uint16_t>(config16(PCI_COMMAND) | wanted));
}

Answer Device::signal_interrupts(std::uint32_t index, const InterruptCounter &counter) const {
  const std::int32_t eventfd = counter.fd();
  vfio_irq_set set{};
  std::array<std::byte, sizeof(set) + sizeof(eventfd)> request;
  set.argsz = request.size();
  set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set.index = index;
  set.count = 1;
  std::memcpy(request.data(), &set, sizeof(set));
  std::memcpy(request.data() + sizeof(set), &eventfd, sizeof(eventfd));
  return fd_.ioctl(VFIO_DEVICE_SET_IRQS, request.data());
}

Answer Device::disable_interrupts(std::uint32_t index) const {
  vfio_irq_set request{};
  request.argsz = sizeof(request);
  request.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
  request.index = index;
  return fd_.ioctl(VFIO_DEVICE_SET_IRQS, &request);
}

Answer Device::reset() const {
  return fd_.ioctl(VFIO_DEVICE_RESET);
}

} // namespace legacy
