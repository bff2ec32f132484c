#include "observe/ledger_layout.hpp"

#include <algorithm>

namespace vfio_shim::observe::layout {

namespace {
constexpr std::string_view name_start = "vfio-shim.";
} // namespace

std::string region_name(std::string_view prefix) {
  std::string name{name_start};
  name += prefix;
  std::ranges::replace(name, '/', '!');
  return name;
}

std::string prefix_of(std::string_view region_name) {
  if (!region_name.starts_with(name_start))
    return {};
  std::string prefix{region_name.substr(name_start.size())};
  std::ranges::replace(prefix, '!', '/');
  return prefix;
}

} // namespace vfio_shim::observe::layout
