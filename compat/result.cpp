#include "vfio_shim/result.hpp"

#include <cstring>

#include <fmt/format.h>

namespace vfio_shim {

std::string errno_name(int code) {
  const char *name = ::strerrorname_np(code);
  return name != nullptr ? name : fmt::format("errno {}", code);
}

std::string Error::describe() const {
  return fmt::format("{} ({}) at {}", errno_name(code), ::strerrordesc_np(code), where);
}

} // namespace vfio_shim
