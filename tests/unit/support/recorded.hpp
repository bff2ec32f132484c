// SPDX-License-Identifier: MIT
/// @file
/// Recordings made by hand.
#pragma once

#include "observe/trace_reader.hpp"

#include "vfio_shim/units.hpp"

#include <cstdint>
#include <cstring>
#include <string>

#include <linux/vfio.h>

namespace vfio_shim::test {

/// A recording that grows call by call; each takes 1000 ns and begins when the one before ends.
class Recorded {
public:
  using Record = observe::trace::Record;

  explicit Recorded(const std::string &backend = "iommufd") {
    recording.backend = backend;
    recording.kernel = "7.2";
  }

  Record &add(observe::trace::Kind kind, std::uint32_t file) {
    Record record{};
    record.sequence = recording.records.size() + 1;
    record.at = (record.sequence - 1) * 1000;
    record.total = 1000;
    record.pid = record.thread = 77;
    record.kind = kind;
    record.file = file;
    return recording.records.emplace_back(record);
  }

  void open_container(std::uint32_t file) { add(observe::trace::Kind::open_container, file); }

  Record &open_group(std::uint32_t file, std::uint32_t group) {
    return on_group(add(observe::trace::Kind::open_group, file), group);
  }

  static Record &on_group(Record &record, std::uint32_t group) {
    record.of_group = 1;
    record.group = group;
    return record;
  }

  Record &call(std::uint32_t file, std::uint32_t command, std::uint64_t argument = 0) {
    Record &record = add(observe::trace::Kind::call, file);
    record.command = command;
    record.argument = argument;
    return record;
  }

  template <typename Struct>
  static Record &with(Record &record, const Struct &before) {
    std::memcpy(record.before.data(), &before, sizeof(before));
    record.after = record.before;
    record.was_read = sizeof(before);
    return record;
  }

  Record &map(std::uint32_t file, std::uint64_t iova, std::uint64_t size, std::uint64_t vaddr,
              std::uint32_t flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE) {
    return with(call(file, VFIO_IOMMU_MAP_DMA),
                vfio_iommu_type1_dma_map{.argsz = sizeof(vfio_iommu_type1_dma_map),
                                         .flags = flags,
                                         .vaddr = vaddr,
                                         .iova = iova,
                                         .size = size});
  }

  static Record &fails(Record &record, int code) {
    record.error = code;
    record.result = -1;
    return record;
  }

  observe::Recording recording;
};

} // namespace vfio_shim::test
