// SPDX-License-Identifier: MIT
/// @file
/// The reset of a bus, as it looks through the legacy API.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstddef>
#include <vector>

#include "supervise/caller.hpp"

namespace vfio_shim::supervise {

/// What a call answers.
struct HotResetInfo {
  std::vector<std::byte> bytes; ///< Go to where the argument points; may be none.
  int error = 0;                ///< ENOSPC: there are more devices than room.
};

/// VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: the devices that a reset of @p device's bus affects, by
/// their groups. A device bound to an iommufd tells of object ids instead.
/// @return What the kernel answers for a device that was opened through its group.
Result<HotResetInfo> get_hot_reset_info(const Caller &caller, const Fd &device,
                                        ClientAddr argument);

/// VFIO_DEVICE_PCI_HOT_RESET with the files of the groups that are affected.
///
/// The kernel wants all of them in one address space then, because the file that it is asked with
/// is bound to that. @return What the kernel answers for a device that was opened through its
/// group; EINVAL if the groups are in several containers.
Result<void> hot_reset(const Caller &caller, const Fd &device, ClientAddr argument);

} // namespace vfio_shim::supervise
