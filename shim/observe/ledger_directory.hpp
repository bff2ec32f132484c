// SPDX-License-Identifier: MIT
/// @file
/// The directory of the daemons' ledgers and locks.
#pragma once

#include "vfio_shim/result.hpp"

#include <filesystem>

#include <sys/types.h>

namespace vfio_shim::observe {

/// Only root may write below /run: nobody else can be there first.
inline constexpr const char *ledger_directory = "/run/vfio-shim";

/// Whether what @p owner owns is to be trusted: it is root's, or of the user who looks (for tests).
bool is_trusted(uid_t owner);

/// Makes the directory unless it is there.
/// @return EPERM: it belongs to a stranger, or others may write to it.
Result<void> make_ledger_directory(const std::filesystem::path &directory);

} // namespace vfio_shim::observe
