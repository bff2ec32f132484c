// SPDX-License-Identifier: MIT
/// @file
/// The ledger's file: how it is made, and how an older one becomes one of today.
#pragma once

#include "observe/ledger_layout.hpp"

#include "vfio_shim/result.hpp"

#include <cstdint>
#include <filesystem>

namespace vfio_shim::observe {

/// How many records of each kind there is room for. Memory is taken only as records are used.
struct LedgerCapacity {
  std::uint32_t containers = 8192;
  std::uint32_t groups = 16384;
  std::uint32_t devices = 16384;
  std::uint32_t mappings = 4U << 20U; ///< 64 containers at type1's limit of mappings each.
  std::uint32_t bindings = 32768;
  std::uint32_t calls = 65536;
  std::uint32_t areas = 65536;
  std::uint32_t residents = 65536;
};

/// Says where everything goes. @return The size of the region.
std::uint64_t lay_out(layout::Header &header, const LedgerCapacity &capacity);

/// Makes a new file for a ledger, in place of one that is there.
/// @param placed Is laid out.
Result<void> make_ledger_file(const std::filesystem::path &path, layout::Header &placed,
                              const LedgerCapacity &capacity);

/// Makes a ledger of today's version of an older one, whose writer has died. It is the old one or
/// the new one at any time. What the old one does not know is 0. Does nothing to one of today.
/// @return ENOSPC: no memory left for files.
Result<void> convert_ledger_file(const std::filesystem::path &path);

} // namespace vfio_shim::observe
