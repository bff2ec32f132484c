// SPDX-License-Identifier: MIT
#include "observe/ledger_directory.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::observe {

bool is_trusted(uid_t owner) {
  return owner == 0 || owner == ::geteuid();
}

Result<void> make_ledger_directory(const std::filesystem::path &directory) {
  constexpr mode_t everybody_looks = 0755;
  constexpr mode_t others_write = 0022;
  if (::mkdir(directory.c_str(), everybody_looks) == 0) {
    if (::chmod(directory.c_str(), everybody_looks) != 0) // Whatever the umask.
      return fail_errno(directory);
    return {};
  }
  if (errno != EEXIST)
    return fail_errno(directory);
  struct stat found {};
  if (::lstat(directory.c_str(), &found) != 0)
    return fail_errno(directory);
  if (!S_ISDIR(found.st_mode))
    return fail(ENOTDIR, directory);
  if (!is_trusted(found.st_uid) || (found.st_mode & others_write) != 0)
    return fail(EPERM, fmt::format("{}: others than root may write to it", directory.string()));
  return {};
}

} // namespace vfio_shim::observe
