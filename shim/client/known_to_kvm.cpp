// SPDX-License-Identifier: MIT
#include "client/known_to_kvm.hpp"

#include "client/descriptor_reserve.hpp"
#include "client/kvm_vfio_device.hpp"
#include "client/process_handle.hpp"
#include "client/thread_state.hpp"
#include "topology/device_file.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::client {

namespace {

using namespace std::chrono_literals;

/// How often the descriptors of processes are looked at.
constexpr auto pause_between_looks = 1s;

/// Each costs a descriptor, and clients must not exhaust ours.
constexpr std::ptrdiff_t most_machines_of_a_device = 8;

/// "kvm.PID.GROUP.NUMBER": enough to know the file again.
std::string name_of(Pid pid, GroupId group, std::uint64_t number) {
  return fmt::format("{}{}.{}.{}", KnownToKvm::kept_name, pid.value, group.value, number);
}

struct KeptName {
  Pid pid;
  GroupId group;
  std::uint64_t number = 0;
};

std::optional<KeptName> parse(std::string_view name) {
  KeptName parsed{};
  name.remove_prefix(std::min(name.size(), KnownToKvm::kept_name.size()));
  const auto read = [&name](auto &number) {
    const auto [end, error] = std::from_chars(name.begin(), name.end(), number);
    if (error != std::errc{})
      return false;
    name.remove_prefix(static_cast<std::size_t>(end - name.begin()));
    name.remove_prefix(std::min<std::size_t>(name.size(), 1)); // The dot.
    return true;
  };
  const bool complete =
      read(parsed.pid.value) && read(parsed.group.value) && read(parsed.number) && name.empty();
  return complete ? std::optional(parsed) : std::nullopt;
}

} // namespace

Result<std::shared_ptr<const DeviceFiles>> KnownToKvm::file_of(const Owner &owner, GroupId group,
                                                               const topology::Device &device) {
  const std::scoped_lock lock(mutex_);
  const auto is_meant = [&](const Entry &entry) {
    return entry.pid == owner.pid && entry.known.device == device.name;
  };
  if (const auto entry = std::ranges::find_if(entries_, is_meant); entry != entries_.end()) {
    if (!has_ended(entry->process)) {
      entry->abandoned = false;
      return entry->known.file;
    }
    remove(entry);
  }
  if (std::ranges::count(entries_, device.name, [](const Entry &entry) -> const std::string & {
        return entry.known.device;
      }) >= most_machines_of_a_device)
    return fail(ENFILE, "too many machines know the device already");
  if (!room_for_lasting_descriptors())
    return fail(ENFILE, "few descriptors are left");
  auto file = lent_.lend({.id = group, .devices = {device}}, owner.name);
  if (!file)
    return file;
  // Kept before KVM knows it: whoever comes after us can take it away again.
  std::string name = name_of(owner.pid, group, ++last_name_);
  VFIO_SHIM_TRY(store_.keep(name, (*file)->front()));
  entries_.push_back({.process = owner.process.duplicate(),
                      .pid = owner.pid,
                      .known = {.group = group, .device = device.name, .file = *file},
                      .kept_as = std::move(name)});
  return file;
}

std::vector<KnownToKvm::Known> KnownToKvm::unused_of(Pid pid, GroupId group) {
  const std::scoped_lock lock(mutex_);
  std::vector<Known> unused;
  for (const Entry &entry : entries_)
    if (entry.pid == pid && (entry.abandoned || entry.known.group == group))
      unused.push_back(entry.known);
  return unused;
}

void KnownToKvm::forget(Pid pid, const Known &known) {
  {
    const std::scoped_lock lock(mutex_);
    const auto entry = std::ranges::find_if(
        entries_, [&](const Entry &one) { return one.pid == pid && one.known.file == known.file; });
    if (entry != entries_.end())
      remove(entry);
  }
  look_after_(); // It was lent, and is to come back.
}

/// With the lock held. The copy that is kept goes first.
void KnownToKvm::remove(std::list<Entry>::iterator entry) {
  store_.drop(entry->kept_as);
  entries_.erase(entry);
}

void KnownToKvm::abandon(GroupId group) {
  bool any = false;
  {
    const std::scoped_lock lock(mutex_);
    for (Entry &entry : entries_)
      if (entry.known.group == group)
        any = entry.abandoned = true;
  }
  if (any)
    look_after_();
}

bool KnownToKvm::look_after() {
  const std::scoped_lock lock(mutex_);
  const auto now = Clock::now();
  const bool look = now - last_look_ >= pause_between_looks;
  if (look)
    last_look_ = now;
  bool any_abandoned = false;
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    // Where descriptors cannot be seen, the process's end tells.
    const bool forgotten =
        entry->abandoned && (has_ended(entry->process) ||
                             (look && !is_exiting(Tid{entry->pid.value}) &&
                              !has_kvm_vfio_device(entry->pid) && !has_ended(entry->process)));
    any_abandoned = any_abandoned || (entry->abandoned && !forgotten);
    if (forgotten)
      remove(entry);
    entry = next;
  }
  return lent_.look_after() && (any_abandoned || lent_.awaits_any());
}

void KnownToKvm::adopt(const std::string &name, Fd file) {
  const auto parsed = parse(name);
  const auto device = topology::device_behind(file);
  auto process = parsed ? open_process(parsed->pid) : Result<Fd>(fail(EINVAL, name));
  if (!process || !device || device->empty()) {
    store_.drop(name); // There is nobody any more whose KVM could be told.
    return;
  }
  const std::scoped_lock lock(mutex_);
  last_name_ = std::max(last_name_, parsed->number);
  DeviceFiles files;
  files.push_back(std::move(file));
  auto adopted =
      lent_.adopt(std::move(files), parsed->group, fmt::format("process {}", parsed->pid.value));
  entries_.push_back({.process = std::move(*process),
                      .pid = parsed->pid,
                      .known = {.group = parsed->group, .device = *device, .file = adopted},
                      .kept_as = name});
}

} // namespace vfio_shim::client
