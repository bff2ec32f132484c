// SPDX-License-Identifier: MIT
/// @file
/// The kernel's answers to calls on a group: pure functions of the group's state and the call.
/// Source of the rules: drivers/vfio/group.c.
#pragma once

#include "rules/legacy_call.hpp"
#include "rules/operations.hpp"

#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

namespace vfio_shim::rules {

/// Judges a call by its number alone.
/// @param operation nullptr: the ioctl is unknown.
/// @return ENOTTY: it is none of a group's.
Result<void> check_operation(const Operation *operation);

/// The answer to VFIO_GROUP_GET_STATUS.
GetStatus answer_to(const GetStatus &call, bool viable, bool in_container);

/// @return ENODEV: the group is closed, or was unplugged. EINVAL: it is in a container.
Result<void> check_set_container(bool closed, bool in_container);

/// @return EINVAL: it is in none.
Result<void> check_in_container(bool in_container);

/// The device that is asked for, as the kernel matches it: a name, then options.
/// @return ENODEV: the group has no such device. EINVAL: options (VF tokens).
Result<topology::Device> find_device(const GetDeviceFd &call, const topology::Group &group);

} // namespace vfio_shim::rules
