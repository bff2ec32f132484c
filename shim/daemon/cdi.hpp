// SPDX-License-Identifier: MIT
/// @file
/// Specifications for container engines, by which they know a group's nodes by a name
/// (Container Device Interface): `podman run --device vfio-shim/group=0000:03:00.0`.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vfio_shim::daemon {

/// What programs in a container use their devices by.
enum class CdiApi : std::uint8_t {
  legacy, ///< A daemon's nodes, as /dev/vfio/vfio and /dev/vfio/N.
  iommufd ///< The kernel's: /dev/iommu and /dev/vfio/devices/vfioX.
};

/// Where engines look for specifications that change while the machine runs.
inline constexpr const char *cdi_directory = "/run/cdi";

/// "vfio-shim/group" or "vfio-shim/iommufd": what stands before the name of a device.
std::string cdi_kind(CdiApi api);

/// The name of the file for all devices of an API: "vfio-shim-group.json".
std::string cdi_file_name(CdiApi api);

/// Makes a specification. Each group can be asked for by the name of each of its devices, and by
/// its number. It names nodes by their paths, so it stays right when device numbers change.
///
/// @param prefix Where the daemon's nodes are below /dev; nobody minds for iommufd.
nlohmann::ordered_json cdi_specification(CdiApi api, const std::vector<topology::Group> &groups,
                                         const std::string &prefix,
                                         const topology::Roots &roots = {});

/// Puts a specification into @p file, so that nobody ever reads half of one.
/// @return The errno of writing it.
Result<void> write_cdi_file(const std::filesystem::path &file,
                            const nlohmann::ordered_json &specification);

/// The file in a directory of engines that says what a daemon serves. It goes when it is told to,
/// not with the object: a daemon's next worker goes on with it.
class CdiFile {
public:
  /// @param directory "": there is no such file, and nothing is written.
  CdiFile(const std::filesystem::path &directory, std::string prefix, topology::Roots roots = {});

  /// Has the file say that @p groups are served. Without any there is no file: engines refuse an
  /// empty one.
  /// @return The errno of writing it.
  Result<void> follow(const std::vector<topology::Group> &groups);

  /// Removes the file. That it is not there is no error.
  Result<void> remove();

private:
  std::filesystem::path file_;
  std::string prefix_;
  topology::Roots roots_;
  nlohmann::ordered_json written_; ///< What the file says now; null: nobody knows.
};

} // namespace vfio_shim::daemon
