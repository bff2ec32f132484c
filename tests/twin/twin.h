// SPDX-License-Identifier: MIT
#pragma once

#include "client/device.h"
#include "client/edu.h"
#include "client/provider.h"
#include "client/topology.h"
#include "rules/legacy_call.hpp"

#include <array>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "argument_page.h"
#include "memory_pool.h"
#include "operation.h"

namespace twin {

/// How ioctls lie in memory is known in one place: what the shim decodes is encoded there, too.
/// That both are right, the twin of type1 shows.
namespace rules = vfio_shim::rules;

/// Bytes that a call changed, by their offset.
using Changes = std::map<std::int64_t, std::byte>;

/// All that a client can see of one operation, but for the memory that devices write to. Nothing
/// in it depends on which twin it was.
struct Outcome {
  legacy::Answer answer;
  Changes argument; ///< In the ioctl's argument.
  Changes bitmap;   ///< In the dirty bitmap that the argument names.

  friend bool operator==(const Outcome &, const Outcome &) = default;
};
std::ostream &operator<<(std::ostream &out, const Outcome &outcome);

/// A client of one provider, with devices and memory just like those of its twin.
class Twin {
public:
  using Devices = std::array<legacy::PciDevice, slots>;

  /// The devices are alone in their groups, which go into the slots in this order.
  Twin(legacy::Provider provider, Devices devices);

  const legacy::Provider &provider() const { return provider_; }
  const MemoryPool &memory() const { return memory_; }

  /// Nothing when there is nothing to do it on.
  std::optional<Outcome> carry_out(const Operation &operation);

  /// Closes everything, and makes the memory as it was.
  void start_anew();

private:
  struct Group {
    legacy::Fd fd;
    std::vector<legacy::Device> devices; ///< As often as it was opened, up to most_opened.
    std::optional<legacy::Edu> edu;      ///< Made from the first of them when it is needed.
  };
  static constexpr std::size_t most_opened = 2;

  using Done = std::optional<Outcome>;

  Done run(const OpenContainer &operation);
  Done run(const CloseContainer &operation);
  Done run(const OpenGroup &operation);
  Done run(const CloseGroup &operation);
  Done run(const SetContainer &operation);
  Done run(const UnsetContainer &operation);
  Done run(const GetStatus &operation);
  Done run(const GetDeviceFd &operation);
  Done run(const CloseDevice &operation);
  Done run(const GroupCall &operation);
  Done run(const DeviceCall &operation);
  Done run(const CheckExtension &operation);
  Done run(const SetIommu &operation);
  Done run(const GetInfo &operation);
  Done run(const MapDma &operation);
  Done run(const UnmapDma &operation);
  Done run(const UnmapGettingDirty &operation);
  Done run(const DirtyPages &operation);
  Done run(const DirtyBitmap &operation);
  Done run(const ContainerCall &operation);
  Done run(const CopyByDma &operation);
  Done run(const WriteMemory &operation);
  Done run(const ChangeMemory &operation);

  Done call(const legacy::Fd &fd, unsigned long request, std::span<const std::byte> argument,
            Place place);
  rules::Bitmap place(const Bitmap &bitmap);
  Done with_bitmap(Done done) const;
  int descriptor(const SetContainer &operation) const;
  std::string device_name(const GetDeviceFd &operation) const;
  std::uint64_t address(const MemoryAt &memory) const;

  legacy::Provider provider_;
  Devices devices_;
  MemoryPool memory_;
  ArgumentPage argument_;
  ArgumentPage bitmap_;
  legacy::Fd other_file_;
  std::array<legacy::Fd, slots> containers_;
  std::array<Group, slots> groups_;
};

} // namespace twin
