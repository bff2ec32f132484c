// SPDX-License-Identifier: MIT
#include "edu.h"

#include <chrono>
#include <stdexcept>
#include <thread>

namespace legacy {
namespace {

using namespace std::chrono_literals;

namespace reg {
constexpr std::size_t id = 0x00;
constexpr std::size_t liveness = 0x04;
constexpr std::size_t interrupt_status = 0x24;
constexpr std::size_t interrupt_raise = 0x60;
constexpr std::size_t interrupt_acknowledge = 0x64;
constexpr std::size_t dma_source = 0x80;
constexpr std::size_t dma_destination = 0x88;
constexpr std::size_t dma_count = 0x90;
constexpr std::size_t dma_command = 0x98;
} // namespace reg

constexpr std::uint64_t command_start = 1 << 0;
constexpr std::uint64_t command_to_ram = 1 << 1;
constexpr std::uint64_t dma_buffer = 0x40000;

// A transfer takes 100 ms of guest time; a slow emulator makes that longer.
constexpr auto patience = 5s;

} // namespace

Edu::Edu(const Device &device)
    : bar_{(device.enable_memory_and_dma(), device.map_region(VFIO_PCI_BAR0_REGION_INDEX))} {}

std::uint32_t Edu::id() const {
  return bar_.read32(reg::id);
}

std::uint32_t Edu::liveness(std::uint32_t value) const {
  bar_.write32(reg::liveness, value);
  return bar_.read32(reg::liveness);
}

void Edu::fetch(Iova from, Bytes size) const {
  start(from.address, dma_buffer, size, command_start);
  wait_until_stopped();
}

void Edu::store(Iova to, Bytes size) const {
  start_store(to, size);
  wait_until_stopped();
}

void Edu::start_store(Iova to, Bytes size) const {
  start(dma_buffer, to.address, size, command_start | command_to_ram);
}

void Edu::raise_interrupt(std::uint32_t bits) const {
  bar_.write32(reg::interrupt_raise, bits);
}

std::uint32_t Edu::interrupt_status() const {
  return bar_.read32(reg::interrupt_status);
}

void Edu::acknowledge_interrupt(std::uint32_t bits) const {
  bar_.write32(reg::interrupt_acknowledge, bits);
}

void Edu::start(std::uint64_t source, std::uint64_t destination, Bytes size,
                std::uint64_t command) const {
  if (size > largest_transfer)
    throw std::logic_error{"edu: a transfer this large would abort QEMU"};
  wait_until_stopped();
  bar_.write64(reg::dma_source, source);
  bar_.write64(reg::dma_destination, destination);
  bar_.write64(reg::dma_count, size.count);
  bar_.write64(reg::dma_command, command);
}

void Edu::wait_until_stopped() const {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  while (bar_.read32(reg::dma_command) & command_start) {
    if (std::chrono::steady_clock::now() > give_up)
      throw std::runtime_error{"edu: the DMA engine does not stop"};
    std::this_thread::sleep_for(2ms);
  }
}

} // namespace legacy
