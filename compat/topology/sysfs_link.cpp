// SPDX-License-Identifier: MIT
#include "topology/sysfs_link.hpp"

namespace vfio_shim::topology {

bool is_not_there(const std::error_code &error) {
  return error == std::errc::no_such_file_or_directory || error == std::errc::no_such_device ||
         error == std::errc::not_a_directory || error == std::errc::invalid_argument;
}

Result<std::string> link_target_name(const std::filesystem::path &link) {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::read_symlink(link, error);
  if (error && !is_not_there(error))
    return fail(error.value(), link);
  return error ? std::string{} : target.filename().string();
}

} // namespace vfio_shim::topology
