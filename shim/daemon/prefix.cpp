// SPDX-License-Identifier: MIT
#include "daemon/prefix.hpp"

#include "cuse/container_names.hpp"
#include "observe/ledger_directory.hpp"
#include "observe/ledger_reader.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

namespace vfio_shim::daemon {

namespace fs = std::filesystem;

namespace {

/// Where legacy programs look.
constexpr const char *legacy_directory = "vfio";

/// Not removed when a daemon ends: another one could be about to lock it.
fs::path lock_path(std::string prefix) {
  std::ranges::replace(prefix, '/', '.');
  return fs::path(observe::ledger_directory) / (prefix + ".lock");
}

} // namespace

bool kernel_has_legacy_nodes(const topology::Roots &roots) {
  std::error_code error;
  // The kernel's own group nodes belong to the class "vfio", its container to "misc"; ours to
  // "cuse".
  return fs::exists(roots.sys / "class/vfio", error) ||
         fs::exists(roots.sys / "class/misc/vfio", error);
}

bool is_taken_over(const topology::Roots &roots) {
  std::error_code error;
  return fs::exists(topology::nodes_put_aside(roots), error) && is_served(legacy_directory);
}

bool shares_with_kernel(const topology::Roots &roots) {
  std::error_code error;
  return fs::exists(roots.dev / legacy_directory / cuse::container_name_beside_kernels, error);
}

std::string default_prefix(const topology::Roots &roots) {
  return kernel_has_legacy_nodes(roots) && !is_taken_over(roots) ? "vfio-shim" : legacy_directory;
}

fs::path container_node(const std::string &prefix, const topology::Roots &roots) {
  const fs::path beside = roots.dev / prefix / cuse::container_name_beside_kernels;
  std::error_code error;
  return fs::exists(beside, error) ? beside : roots.dev / prefix / cuse::container_name;
}

bool is_served(const std::string &prefix) {
  const Fd file{::open(lock_path(prefix).c_str(), O_RDONLY | O_CLOEXEC)};
  return file && ::flock(file.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

bool has_daemon(const std::string &prefix) {
  const auto reader = observe::LedgerReader::open(prefix);
  return reader && reader->daemon().alive;
}

Result<PrefixLock> PrefixLock::acquire(const std::string &prefix,
                                       std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds glance{20};
  const fs::path path = lock_path(prefix);
  VFIO_SHIM_TRY(observe::make_ledger_directory(path.parent_path()));
  Fd file{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!file)
    return fail_errno(path);
  const auto until = std::chrono::steady_clock::now() + patience;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK || std::chrono::steady_clock::now() >= until)
      return fail(errno == EWOULDBLOCK ? EBUSY : errno, path);
    std::this_thread::sleep_for(glance);
  }
  return PrefixLock(std::move(file));
}

} // namespace vfio_shim::daemon
