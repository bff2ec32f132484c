// SPDX-License-Identifier: MIT
#include "observe/statistics.hpp"

#include "rules/operations.hpp"

#include <algorithm>
#include <numeric>
#include <string_view>

#include <fmt/format.h>
#include <linux/vfio.h>

namespace vfio_shim::observe {

namespace {

constexpr std::uint32_t command_of(std::size_t kind) {
  return static_cast<std::uint32_t>(_IO(VFIO_TYPE, VFIO_BASE + kind));
}

std::size_t kind_of(const trace::Record &record) {
  switch (record.kind) {
  case trace::Kind::open_container:
  case trace::Kind::open_group:
    return Statistics::opens;
  case trace::Kind::close:
    return Statistics::closes;
  default:
    break;
  }
  const std::uint32_t number = record.command - command_of(0);
  return number < Statistics::vfio_ioctls ? number : Statistics::other_ioctls;
}

} // namespace

std::string command_name(std::uint32_t command) {
  const auto name = rules::name_of(command);
  return name.empty() ? fmt::format("ioctl {:#x}", command) : std::string(name);
}

std::string kind_name(std::size_t kind) {
  switch (kind) {
  case Statistics::opens:
    return "open";
  case Statistics::closes:
    return "close";
  case Statistics::other_ioctls:
    return "other ioctl";
  default:
    return command_name(command_of(kind));
  }
}

void Statistics::add(const trace::Record &record) {
  Counts &counts = counts_[kind_of(record)];
  const auto error = std::min<std::size_t>(static_cast<std::size_t>(record.error), last_errno);
  counts.results[error].fetch_add(1, std::memory_order_relaxed);
  counts.nanoseconds.fetch_add(record.total, std::memory_order_relaxed);
  if (record.borrow != 0)
    counts.borrowed.fetch_add(1, std::memory_order_relaxed);
  counts.latencies.add(record.total);
}

std::uint64_t Statistics::Kind::failed() const {
  return std::accumulate(errors.begin(), errors.end(), std::uint64_t{0});
}

std::vector<Statistics::Kind> Statistics::read() const {
  std::vector<Kind> all(kinds);
  for (std::size_t kind = 0; kind < kinds; ++kind) {
    const Counts &counts = counts_[kind];
    all[kind].name = kind_name(kind);
    all[kind].borrowed = counts.borrowed.load(std::memory_order_relaxed);
    all[kind].nanoseconds = counts.nanoseconds.load(std::memory_order_relaxed);
    all[kind].latencies = counts.latencies.read();
    for (std::size_t error = 0; error <= last_errno; ++error)
      all[kind].errors[error] = counts.results[error].load(std::memory_order_relaxed);
    all[kind].calls = all[kind].errors[0];
    all[kind].errors[0] = 0;
    all[kind].calls += all[kind].failed();
  }
  return all;
}

} // namespace vfio_shim::observe
