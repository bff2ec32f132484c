// SPDX-License-Identifier: MIT
/// @file
/// What the hardware can do, for people and for programs.
#pragma once

#include "vfio_shim/hardware.hpp"
#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// One device, as far as it could be asked.
struct DeviceInfo {
  std::string name;
  GroupId group;
  std::vector<hardware::Reserved> reserved; ///< Of its group.
  std::optional<hardware::Description> description;
  std::string silence; ///< Why there is no description.
};

/// What a VM with all of these devices could be promised at its start.
struct Promise {
  hardware::Capabilities capabilities;
  std::vector<std::string> not_asked; ///< Devices of which only the reserved ranges are known.
};

/// @return Nothing if no device could be asked.
std::optional<Promise> promise_of(const std::vector<DeviceInfo> &devices);

std::string info_text(const std::vector<DeviceInfo> &devices);
nlohmann::ordered_json info_json(const std::vector<DeviceInfo> &devices);

} // namespace vfio_shim::cli
