// SPDX-License-Identifier: MIT
#include "observe/ledger_layout.hpp"

#include <algorithm>

namespace vfio_shim::observe::layout {

namespace {
constexpr std::string_view name_end = ".ledger";
} // namespace

std::string file_name(std::string_view prefix) {
  std::string name{prefix};
  std::ranges::replace(name, '/', '!');
  name += name_end;
  return name;
}

std::string prefix_of(std::string_view file_name) {
  if (!file_name.ends_with(name_end))
    return {};
  std::string prefix{file_name.substr(0, file_name.size() - name_end.size())};
  std::ranges::replace(prefix, '!', '/');
  return prefix;
}

} // namespace vfio_shim::observe::layout
