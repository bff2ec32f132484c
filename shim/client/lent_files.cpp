// SPDX-License-Identifier: MIT
#include "client/lent_files.hpp"

#include "client/process_handle.hpp"
#include "topology/device_file.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

using namespace std::chrono_literals;

/// What lies between the last use of a file and the kernel's word of its end.
constexpr auto grace = 1s;
constexpr auto glance = 100ms;

/// The root of a new file system that is mounted nowhere.
Fd make_file_system() {
  const Fd context{::fsopen("tmpfs", FSOPEN_CLOEXEC)};
  if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return {};
  return Fd{::fsmount(context.get(), FSMOUNT_CLOEXEC, 0)};
}

std::string link_to(const Fd &file) {
  return fmt::format("/proc/self/fd/{}", file.get());
}

} // namespace

/// With the lock held.
Result<void> LentFiles::prepare() {
  if (!directory_)
    directory_ = make_file_system();
  if (!directory_)
    return fail_for_want_of_descriptors("a file system for nodes");
  if (!events_)
    events_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!events_)
    return fail_for_want_of_descriptors("inotify_init1");
  return {};
}

/// Opens the device that @p original is an open file of on a node of its own, and watches that.
/// Only root can open the node again (/proc/self/fd): so one open file is all that can be closed on
/// it.
Result<LentFiles::Watched> LentFiles::open_watched(const Fd &original) const {
  struct stat status {};
  constexpr const char *name = "cdev"; // Each is gone before the next one is made.
  if (::fstat(original.get(), &status) != 0 ||
      ::mknodat(directory_.get(), name, S_IFCHR | S_IRUSR | S_IWUSR, status.st_rdev) != 0)
    return fail_errno("making a node");
  Fd file{::openat(directory_.get(), name, O_RDWR | O_CLOEXEC)};
  const int error = errno;
  ::unlinkat(directory_.get(), name, 0);
  if (!file)
    return fail(error, "opening the node");
  const auto watch = this->watch(file);
  if (!watch)
    return pass_on(watch);
  return Watched{.file = std::move(file), .watch = *watch};
}

Result<int> LentFiles::watch(const Fd &file) const {
  const int watch = ::inotify_add_watch(events_.get(), link_to(file).c_str(), IN_CLOSE);
  if (watch < 0)
    return fail_errno("inotify_add_watch");
  return watch;
}

/// With the lock held.
void LentFiles::note_lent(int watch, Lent lent) {
  lent_[watch] = std::make_shared<Lent>(std::move(lent));
}

Result<std::shared_ptr<const DeviceFiles>>
LentFiles::lend(const topology::Group &group, const std::string &borrower,
                const std::shared_ptr<const Fd> &group_node) {
  auto files = std::make_shared<DeviceFiles>();
  const std::scoped_lock lock(mutex_);
  VFIO_SHIM_TRY(prepare());
  for (const topology::Device &device : group.devices) {
    auto original = topology::open_cdev(device);
    if (!original)
      return pass_on(original);
    auto watched = open_watched(*original); // Until then its number is this device's.
    if (!watched)
      return pass_on(watched);
    files->push_back(std::move(watched->file));
    note_lent(watched->watch, {.in_use = files,
                               .group = group.id,
                               .group_node = group_node,
                               .what = fmt::format("{} (group {}), which KVM was given for {}",
                                                   device.name, group.id.value, borrower),
                               .due = {},
                               .missed = false});
  }
  return files;
}

std::shared_ptr<const DeviceFiles> LentFiles::adopt(DeviceFiles files, GroupId group,
                                                    const std::string &borrower) {
  auto adopted = std::make_shared<const DeviceFiles>(std::move(files));
  const std::scoped_lock lock(mutex_);
  const auto prepared = prepare();
  for (const Fd &file : *adopted) {
    const auto watch = prepared ? this->watch(file) : pass_on(prepared);
    if (watch)
      note_lent(*watch, {.in_use = adopted,
                         .group = group,
                         .group_node = nullptr,
                         .what = fmt::format("of group {}, which KVM was given for {}", group.value,
                                             borrower),
                         .due = {},
                         .missed = false});
    else
      spdlog::warn("nobody will notice if {} keeps a file of group {}: {}", borrower, group.value,
                   watch.error().describe());
  }
  return adopted;
}

void LentFiles::note_returned() {
  if (!events_)
    return;
  alignas(inotify_event) std::array<char, 4096> buffer{};
  for (ssize_t size = 0; (size = ::read(events_.get(), buffer.data(), buffer.size())) > 0;)
    for (ssize_t at = 0; at < size;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      at += static_cast<ssize_t>(sizeof(event) + event.len);
      if ((event.mask & IN_CLOSE) != 0 && lent_.erase(event.wd) != 0)
        ::inotify_rm_watch(events_.get(), event.wd);
    }
}

bool LentFiles::look_after() {
  const std::scoped_lock lock(mutex_);
  note_returned();
  for (auto &[watch, lent] : lent_) {
    if (!lent->in_use.expired())
      continue;
    if (!lent->due) {
      lent->due = Clock::now() + grace;
    } else if (!lent->missed && Clock::now() >= *lent->due) {
      lent->missed = true;
      spdlog::warn("somebody has kept a file of device {}: nobody gets the group until it is "
                   "closed",
                   lent->what);
      if (lent->group_node)
        std::thread(keep_group, lent).detach();
    }
  }
  return !lent_.empty();
}

bool LentFiles::awaits_any() {
  const std::scoped_lock lock(mutex_);
  return std::ranges::any_of(lent_,
                             [](const auto &entry) { return entry.second->in_use.expired(); });
}

bool LentFiles::is_missing(GroupId group) {
  const std::scoped_lock lock(mutex_);
  note_returned();
  return std::ranges::any_of(lent_, [group](const auto &entry) {
    return entry.second->missed && entry.second->group == group;
  });
}

/// Opens the group's node as soon as it can be opened, and closes it when the file has come back.
void LentFiles::keep_group(const std::shared_ptr<Lent> &lent) {
  const std::string node = link_to(*lent->group_node);
  Fd group;
  while (lent.use_count() > 1) {
    if (!group)
      group.reset(::open(node.c_str(), O_RDWR | O_CLOEXEC));
    std::this_thread::sleep_for(glance);
  }
}

} // namespace vfio_shim::client
