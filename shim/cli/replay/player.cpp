#include "cli/replay/player.hpp"

#include "cli/trace_text.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace vfio_shim::cli {

namespace {

/// The largest answer that is given room: a capability chain, a dirty bitmap's header.
constexpr std::size_t most_room = 1U << 16U;

Reply reply_of(long result) {
  return result < 0 ? Reply{.result = -1, .error = errno} : Reply{.result = result, .error = 0};
}

template <typename Struct>
void store(const Struct &object, std::vector<std::byte> &bytes, std::size_t offset = 0) {
  std::memcpy(bytes.data() + offset, &object, sizeof(object));
}

template <typename Struct>
Struct load(const std::vector<std::byte> &bytes, std::size_t offset = 0) {
  Struct object{};
  std::memcpy(&object, bytes.data() + offset, sizeof(object));
  return object;
}

/// An address where nothing can be read: for calls whose argument could not be read.
std::uint64_t unreadable() {
  static const auto page = reinterpret_cast<std::uint64_t>(
      ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  return page;
}

/// Where a struct's dirty bitmap is described, if it asks for one.
std::optional<std::size_t> bitmap_offset(const trace::Record &record) {
  if (record.command == VFIO_IOMMU_UNMAP_DMA &&
      (argument_of<vfio_iommu_type1_dma_unmap>(record).flags &
       VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) != 0)
    return sizeof(vfio_iommu_type1_dma_unmap);
  if (record.command == VFIO_IOMMU_DIRTY_PAGES &&
      (argument_of<vfio_iommu_type1_dirty_bitmap>(record).flags &
       VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP) != 0)
    return sizeof(vfio_iommu_type1_dirty_bitmap) +
           offsetof(vfio_iommu_type1_dirty_bitmap_get, bitmap);
  return std::nullopt;
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
      (record.kind == trace::Kind::close || record.command == VFIO_GROUP_UNSET_CONTAINER))
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
  if (record.command == VFIO_GROUP_GET_DEVICE_FD && record.was_read != 0)
    return get_device(record, file);
  if (record.was_read == 0)
    return reply_of(
        ::ioctl(file, record.command, record.error == EFAULT ? unreadable() : record.argument));
  auto argument = argument_for(record);
  std::vector<std::byte> bitmap;
  if (const auto offset = bitmap_offset(record)) {
    auto description = load<vfio_bitmap>(argument, *offset);
    bitmap.resize(std::min<std::uint64_t>(description.size, 64UL << 20U));
    description.data = reinterpret_cast<decltype(description.data)>(bitmap.data());
    store(description, argument, *offset);
  }
  return reply_of(::ioctl(file, record.command, argument.data()));
}

Reply Player::get_device(const Record &record, int file) {
  std::string name = device_name(record);
  const std::string device = name.substr(0, name.find(' '));
  if (const auto other = cast_.devices.find(device); other != cast_.devices.end())
    name.replace(0, device.size(), other->second);
  const int number = ::ioctl(file, VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  const Reply reply = reply_of(number);
  if (number >= 0) {
    const std::scoped_lock lock(mutex_);
    devices_.emplace(record.file, Fd{number});
  }
  return reply;
}

/// The struct that the argument pointed to, with what is this process's own put in.
std::vector<std::byte> Player::argument_for(const Record &record) const {
  std::vector<std::byte> bytes(record.before.begin(), record.before.end());
  switch (record.command) {
  case VFIO_GROUP_SET_CONTAINER:
    if (record.other != 0)
      store(descriptor_of(record.other), bytes);
    else if (record.error != EBADF) // A descriptor, but of no container.
      store(descriptor_of(record.file), bytes);
    break;
  case VFIO_IOMMU_MAP_DMA: {
    auto map = load<vfio_iommu_type1_dma_map>(bytes);
    const std::scoped_lock lock(mutex_);
    map.vaddr = memory_.address_of(Pid{record.pid}, map.vaddr);
    store(map, bytes);
    break;
  }
  case VFIO_IOMMU_GET_INFO:
    bytes.resize(std::clamp<std::size_t>(load<std::uint32_t>(bytes), bytes.size(), most_room));
    break;
  default:
    break;
  }
  return bytes;
}

int Player::descriptor_of(std::uint32_t file) const {
  const std::scoped_lock lock(mutex_);
  const auto found = files_.find(file);
  return found == files_.end() ? -1 : found->second.get();
}

} // namespace vfio_shim::cli
