#include "vfio_shim/result.hpp"

#include <fmt/format.h>

#include <cstring>

namespace vfio_shim {

std::string errno_name(int code) {
  const char *name = ::strerrorname_np(code);
  return name != nullptr ? name : fmt::format("errno {}", code);
}

std::string Error::describe() const {
  return fmt::format("{} ({}) at {}", errno_name(code), ::strerrordesc_np(code), where);
}

} // namespace vfio_shim
