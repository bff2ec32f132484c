// SPDX-License-Identifier: MIT
#include "vfio_shim/result.hpp"

#include <cstring>

#include <fmt/format.h>

namespace vfio_shim {

std::string errno_name(int code) {
  const char *name = ::strerrorname_np(code);
  return name != nullptr ? name : fmt::format("errno {}", code);
}

std::string Error::describe() const {
  const char *meaning = ::strerrordesc_np(code);
  return fmt::format("{} ({}) at {}", errno_name(code), meaning != nullptr ? meaning : "?", where);
}

} // namespace vfio_shim
