// SPDX-License-Identifier: MIT
/// @file
/// Seccomp profiles by which container engines have programs supervised.
#pragma once

#include "vfio_shim/result.hpp"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace vfio_shim::supervise {

/// A profile that traps what `run` traps, and otherwise does as another one.
///
/// @param resets Those of a bus are trapped, too. libseccomp cannot do so by descriptors beside a
///        rule for all other calls: so all maps are trapped with them, and go on.
/// @param base In the form that podman and docker have them, or the OCI runtime-spec.
/// @param socket Of the agent.
/// @return EINVAL: @p base is no profile, or lets no ioctl() pass without a condition.
Result<nlohmann::ordered_json> container_profile(nlohmann::ordered_json base,
                                                 const std::filesystem::path &socket,
                                                 bool resets = false);

/// A base that lets everything pass.
nlohmann::ordered_json permissive_profile();

} // namespace vfio_shim::supervise
