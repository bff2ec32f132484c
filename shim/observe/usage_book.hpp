// SPDX-License-Identifier: MIT
/// @file
/// Which program has used what of the legacy API, and its file.
#pragma once

#include "observe/trace_layout.hpp"

#include "vfio_shim/result.hpp"

#include <array>
#include <bitset>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace vfio_shim::observe {

/// What of the legacy API a program can use, as far as it matters to somebody who wants to retire
/// it.
enum class Feature : std::uint8_t {
  container,      ///< open() of the container node.
  group,          ///< open() of a group node.
  device,         ///< VFIO_GROUP_GET_DEVICE_FD.
  vf_token,       ///< The same with options: VF tokens.
  type1,          ///< VFIO_SET_IOMMU with VFIO_TYPE1_IOMMU.
  type1v2,        ///< VFIO_SET_IOMMU with VFIO_TYPE1v2_IOMMU.
  no_iommu,       ///< VFIO_SET_IOMMU with, or a question for, VFIO_NOIOMMU_IOMMU.
  map_private,    ///< Maps of private memory.
  map_shared,     ///< Maps of memfds and shmem.
  map_hugetlb,    ///< Maps of hugetlb pages.
  map_file,       ///< Maps of other files' memory.
  map_device,     ///< Maps of device memory: peer-to-peer.
  unmap,          ///< Unmaps of a range.
  unmap_all,      ///< Unmaps of everything at once.
  dirty_tracking, ///< VFIO_IOMMU_DIRTY_PAGES, and unmaps that want the bitmap.
  update_vaddr,   ///< Maps and unmaps of addresses only: live update.
  asks_extension, ///< VFIO_CHECK_EXTENSION.
  asks_info,      ///< VFIO_IOMMU_GET_INFO.
  mapping_limit,  ///< Maps that the limit of mappings was in the way of.
  unknown_ioctl,  ///< What is no ioctl of containers or groups.
};
inline constexpr std::size_t features = static_cast<std::size_t>(Feature::unknown_ioctl) + 1;

/// A feature's name in files: "map_private".
std::string_view feature_name(Feature feature);

/// The features that a call used.
std::bitset<features> features_of(const trace::Record &record);

/// How a program has used a feature. Times are seconds since 1970.
struct FeatureUse {
  std::uint64_t calls = 0;
  std::uint64_t failed = 0; ///< Of those.
  std::int64_t first = 0;
  std::int64_t last = 0;

  void add(const FeatureUse &more);
};

/// How a program has used all features.
struct ProgramUse {
  std::array<FeatureUse, features> uses{};

  const FeatureUse &operator[](Feature feature) const {
    return uses[static_cast<std::size_t>(feature)];
  }
  FeatureUse &operator[](Feature feature) { return uses[static_cast<std::size_t>(feature)]; }

  std::int64_t first() const; ///< The first use of anything; 0: none.
  std::int64_t last() const;
  void add(const ProgramUse &more);
};

/// All programs. Its size has a bound, whatever programs there are: those beyond it are counted
/// together.
class UsageBook {
public:
  static constexpr std::size_t most_programs = 256;
  static constexpr std::size_t longest_name = 255;
  /// Who stands for the programs that there is no room for.
  static constexpr std::string_view others = "(others)";

  using Programs = std::map<std::string, ProgramUse, std::less<>>;

  const Programs &programs() const { return programs_; }
  bool empty() const { return programs_.empty(); }

  /// Adds a program's use. If there are too many, the one that was used least lately gives way to
  /// it, one that never had a device first.
  /// @param name Cut to longest_name; what is not printable ASCII becomes '?'.
  void add(std::string_view name, const ProgramUse &use);
  void add(const UsageBook &more);

  /// Reads a book. @return ENOENT: there is none. EPROTO: made by a newer program. EBADMSG:
  /// damaged.
  static Result<UsageBook> load(const std::filesystem::path &file);

  /// Writes it in one piece: whatever happens, the file is the old one or the new one.
  Result<void> save(const std::filesystem::path &file) const;

private:
  void make_room();

  Programs programs_;
};

/// The book's file in a state directory.
std::filesystem::path usage_file(const std::filesystem::path &state);

} // namespace vfio_shim::observe
