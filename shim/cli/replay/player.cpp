// SPDX-License-Identifier: MIT
#include "cli/replay/player.hpp"

#include "cli/trace_text.hpp"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace vfio_shim::cli {

namespace {

/// The largest answer that is given room: a capability chain, a dirty bitmap's header.
constexpr std::size_t most_room = 1U << 16U;

Reply reply_of(long result) {
  return result < 0 ? Reply{.result = -1, .error = errno} : Reply{.result = result, .error = 0};
}

/// An address where nothing can be read: for calls whose argument could not be read.
std::uint64_t unreadable() {
  static const auto page = reinterpret_cast<std::uint64_t>(
      ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  return page;
}

/// The dirty bitmap that a call asks for, or nullptr.
rules::Bitmap *bitmap_in(rules::LegacyCall &call) {
  if (auto *unmap = std::get_if<rules::UnmapDma>(&call))
    return unmap->bitmap ? &*unmap->bitmap : nullptr;
  if (auto *dirty = std::get_if<rules::DirtyPages>(&call))
    return dirty->range ? &dirty->range->bitmap : nullptr;
  return nullptr;
}

/// One thread of the recorded programs.
using ThreadKey = std::pair<std::int32_t, std::int32_t>;

} // namespace

Result<std::unique_ptr<Player>> Player::create(const observe::Recording &recording, Cast cast,
                                               std::filesystem::path nodes, bool paced) {
  auto memory = RecordedMemory::reserve(recording);
  if (!memory)
    return pass_on(memory);
  return std::unique_ptr<Player>(
      new Player(recording, std::move(cast), std::move(nodes), paced, std::move(*memory)));
}

Result<std::vector<Reply>> Player::play() {
  std::map<ThreadKey, std::vector<std::size_t>> threads;
  for (std::size_t index = 0; index < recording_.records.size(); ++index) {
    const Record &record = recording_.records[index];
    threads[{record.pid, record.thread}].push_back(index);
  }
  replies_.resize(recording_.records.size());
  began_ = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> running;
    running.reserve(threads.size());
    for (const auto &[key, indices] : threads)
      running.emplace_back([this, &indices = indices] { play_thread(indices); });
  }
  devices_.clear();
  files_.clear();
  if (failure_)
    return tl::unexpected<Error>(*failure_);
  return std::move(replies_);
}

void Player::play_thread(const std::vector<std::size_t> &indices) {
  for (const std::size_t index : indices) {
    const Record &record = recording_.records[index];
    turns_.begin(index);
    wait_for_time(record);
    const auto prepared = prepare(record);
    if (prepared)
      replies_[index] = make(record);
    turns_.end(index);
  }
}

void Player::wait_for_time(const Record &record) const {
  if (paced_)
    std::this_thread::sleep_until(
        began_ + std::chrono::nanoseconds(record.at - recording_.records.front().at));
}

/// What must be there before the call, and is no part of it.
Result<void> Player::prepare(const Record &record) {
  const std::scoped_lock lock(mutex_);
  if (failure_)
    return tl::unexpected<Error>(*failure_);
  // A recording does not see devices being closed, but a group that left had none open.
  if (record.of_group != 0 && record.error == 0 &&
      (record.kind == trace::Kind::close ||
       std::holds_alternative<rules::UnsetContainer>(trace::call_of(record))))
    devices_.erase(record.file);
  auto provided = memory_.provide(record);
  if (!provided)
    failure_ = provided.error();
  return provided;
}

Reply Player::make(const Record &record) {
  switch (record.kind) {
  case trace::Kind::open_container:
  case trace::Kind::open_group:
    return open(record);
  case trace::Kind::close: {
    Fd closing;
    const std::scoped_lock lock(mutex_);
    std::swap(closing, files_[record.file]);
    return {};
  }
  default:
    return call(record);
  }
}

Reply Player::open(const Record &record) {
  const auto group = cast_.groups.find(record.group);
  const std::string name =
      record.kind == trace::Kind::open_container
          ? "vfio"
          : std::to_string(group == cast_.groups.end() ? record.group : group->second);
  Fd file{::open((nodes_ / name).c_str(), O_RDWR | O_CLOEXEC)};
  const Reply reply = reply_of(file ? 0 : -1);
  const std::scoped_lock lock(mutex_);
  files_[record.file] = std::move(file);
  return reply;
}

Reply Player::call(const Record &record) {
  const int file = descriptor_of(record.file);
  if (record.was_read == 0)
    return reply_of(
        ::ioctl(file, record.command, record.error == EFAULT ? unreadable() : record.argument));
  auto call = trace::call_of(record);
  if (const auto *get = std::get_if<rules::GetDeviceFd>(&call))
    return get_device(record, *get, file);
  put_in_own(record, call);
  std::vector<std::byte> bitmap;
  if (auto *described = bitmap_in(call)) {
    bitmap.resize(std::min<std::uint64_t>(described->size.value, 64UL << 20U));
    described->address = ClientAddr{reinterpret_cast<std::uint64_t>(bitmap.data())};
  }
  auto argument = argument_for(record, call);
  return reply_of(::ioctl(file, record.command, argument.data()));
}

Reply Player::get_device(const Record &record, rules::GetDeviceFd get, int file) {
  const std::string device(get.name());
  if (const auto other = cast_.devices.find(device); other != cast_.devices.end())
    get.text.replace(0, device.size(), other->second);
  const int number = ::ioctl(file, record.command, get.text.c_str());
  const Reply reply = reply_of(number);
  if (number >= 0) {
    const std::scoped_lock lock(mutex_);
    devices_.emplace(record.file, Fd{number});
  }
  return reply;
}

/// Replaces the addresses and descriptors of the recorded process by this one's.
void Player::put_in_own(const Record &record, rules::LegacyCall &call) const {
  if (auto *set = std::get_if<rules::SetContainer>(&call)) {
    if (record.other != 0)
      set->container = ClientFd{descriptor_of(record.other)};
    else if (record.error != EBADF) // A descriptor, but of no container.
      set->container = ClientFd{descriptor_of(record.file)};
  } else if (auto *map = std::get_if<rules::MapDma>(&call)) {
    const std::scoped_lock lock(mutex_);
    map->vaddr = ClientAddr{memory_.address_of(Pid{record.pid}, map->vaddr.value)};
  }
}

/// What the argument of @p call points to, with what was behind it and room for the answer.
std::vector<std::byte> Player::argument_for(const Record &record, const rules::LegacyCall &call) {
  std::vector<std::byte> bytes(record.before.begin(), record.before.end());
  rules::store(call, bytes);
  if (const auto *info = std::get_if<rules::GetInfo>(&call))
    bytes.resize(std::clamp<std::size_t>(info->argsz, bytes.size(), most_room));
  return bytes;
}

int Player::descriptor_of(std::uint32_t file) const {
  const std::scoped_lock lock(mutex_);
  const auto found = files_.find(file);
  return found == files_.end() ? -1 : found->second.get();
}

} // namespace vfio_shim::cli
