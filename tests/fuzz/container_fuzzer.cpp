// SPDX-License-Identifier: MIT
/// @file
/// A libFuzzer target: a hostile program on a container. Its memory, its arguments and the failures
/// of its backend come from the fuzzer's bytes; whatever they are, what the calls answer and what
/// the backend holds must agree.

#include "vfio_shim/container.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include <linux/vfio.h>

namespace vfio_shim {
namespace {

/// The end of the fuzzer's patience: it keeps the input that led here.
void require(bool condition, const char *what) {
  if (condition)
    return;
  ::fputs(what, stderr);
  ::abort();
}

/// Takes numbers from the fuzzer's bytes; zeros when there are no more.
class Bytestream {
public:
  explicit Bytestream(std::span<const std::uint8_t> bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }

  template <typename Number>
  Number take() {
    Number number{};
    const auto taken = take_bytes(sizeof(number));
    std::ranges::copy(taken, reinterpret_cast<std::byte *>(&number));
    return number;
  }

  /// At most @p size bytes.
  std::vector<std::byte> take_bytes(std::size_t size) {
    const auto taken = std::as_bytes(rest_.first(std::min(size, rest_.size())));
    rest_ = rest_.subspan(taken.size());
    return {taken.begin(), taken.end()};
  }

private:
  std::span<const std::uint8_t> rest_;
};

/// A client whose memory is one buffer, somewhere.
class BufferClient final : public Client {
public:
  static constexpr std::uint64_t base = 0x7f0000000000;

  std::vector<std::byte> memory;

  std::string describe() const override { return "buffer[1]"; }
  Pid pid() const override { return Pid{1}; }
  Result<Fd> process() override { return fail(ESRCH, "no process"); }
  Result<void> read(ClientAddr from, std::span<std::byte> to) override {
    const auto source = part(from, to.size());
    if (source.size() != to.size())
      return fail(EFAULT, "read");
    std::ranges::copy(source, to.begin());
    return {};
  }
  Result<void> write(ClientAddr to, std::span<const std::byte> from) override {
    const auto target = part(to, from.size());
    if (target.size() != from.size())
      return fail(EFAULT, "write");
    std::ranges::copy(from, target.begin());
    return {};
  }
  Result<void> ioctl_in_client(const Fd & /*file*/, Lending /*lending*/, unsigned long /*command*/,
                               std::span<const std::byte> /*argument*/) override {
    return {};
  }
  Result<std::vector<MemoryPart>> memory_parts(ClientAddr /*start*/, Bytes /*size*/,
                                               Access /*access*/) override {
    return std::vector<MemoryPart>{};
  }
  Result<Fd> copy_of(ClientFd /*number*/) override { return fail(EBADF, "no files"); }
  Result<std::shared_ptr<Container>> container_behind(const Fd & /*file*/) override {
    return nullptr;
  }
  Result<ClientFd> hand_over(const Fd & /*file*/) override { return fail(EMFILE, "no files"); }

private:
  /// The bytes at @p from, or fewer if they are not all there.
  std::span<std::byte> part(ClientAddr from, std::size_t size) {
    const std::uint64_t offset = from.value - base;
    if (offset > memory.size() || memory.size() - offset < size)
      return {};
    return std::span(memory).subspan(offset, size);
  }
};

/// What the backend of the container under test holds; outlives it.
struct Hardware {
  std::map<std::uint64_t, std::uint64_t> mapped; ///< First IOVA to last.
  std::set<std::uint32_t> claimed;
  bool attached = false; ///< Everything claimed.
  bool tracking = false; ///< What devices write to.
  int failing = 0;       ///< The next operation fails with this errno.

  Result<void> failure() {
    const int code = std::exchange(failing, 0);
    return code == 0 ? Result<void>{} : fail(code, "failure from the fuzzer");
  }
};

/// Aborts if it is used against Backend's contract.
class CheckingBackend final : public Backend {
public:
  explicit CheckingBackend(Hardware &hardware) : hardware_(hardware) {}
  ~CheckingBackend() override { hardware_ = {}; }

  Result<void> claim(const topology::Group &group) override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(hardware_.claimed.insert(group.id.value).second, "claimed twice");
    hardware_.attached = false;
    return {};
  }
  Result<void> attach_claimed() override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(!hardware_.claimed.empty(), "attach_claimed() with nothing claimed");
    hardware_.attached = true;
    return {};
  }
  void follow(const topology::Group & /*present*/) override {}
  void release(GroupId group) override {
    require(hardware_.claimed.erase(group.value) == 1, "release of what was not claimed");
  }
  Result<AddressSpace> address_space() override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(hardware_.attached, "address_space() before attach_claimed()");
    return AddressSpace{.usable = usable, .page_sizes = 0x40201000, .coherent = true};
  }
  Result<void> map(Client & /*client*/, const MapRequest &request) override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(hardware_.attached, "map() before attach_claimed()");
    const std::uint64_t first = request.iova.value;
    const std::uint64_t last = first + request.size.value - 1;
    require(request.size.value != 0 && first <= last, "map() of no range");
    require((first | request.size.value | request.vaddr.value) % 0x1000 == 0, "misaligned map()");
    require(request.access.read || request.access.write, "map() without access");
    require(std::ranges::any_of(usable,
                                [&](const IovaRange &range) {
                                  return range.first.value <= first && last <= range.last.value;
                                }),
            "map() of what is not usable");
    for (const auto &[other_first, other_last] : hardware_.mapped)
      require(last < other_first || other_last < first, "map() of what is mapped");
    hardware_.mapped.emplace(first, last);
    return {};
  }
  Result<void> unmap(IovaRange range) override {
    VFIO_SHIM_TRY(hardware_.failure());
    const auto gone = std::erase_if(hardware_.mapped, [&](const auto &mapping) {
      const bool touched = mapping.first <= range.last.value && range.first.value <= mapping.second;
      require(!touched ||
                  (range.first.value <= mapping.first && mapping.second <= range.last.value),
              "unmap() cuts a mapping");
      return touched;
    });
    require(gone != 0, "unmap() of nothing");
    return {};
  }
  Result<void> track_dirty(bool on) override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(!on || !hardware_.tracking, "tracking started twice");
    hardware_.tracking = on;
    return {};
  }
  Result<void> report_dirty(IovaRange range, Bytes page_size, AfterReport /*after*/,
                            std::span<std::uint64_t> bitmap) override {
    VFIO_SHIM_TRY(hardware_.failure());
    require(hardware_.tracking, "report_dirty() without tracking");
    require(std::ranges::any_of(hardware_.mapped,
                                [&](const auto &mapping) {
                                  return mapping.first <= range.first.value &&
                                         range.last.value <= mapping.second;
                                }),
            "report_dirty() of what is not mapped");
    const std::uint64_t pages = (range.last - range.first).value / page_size.value + 1;
    require(pages <= bitmap.size() * 64, "report_dirty() with too small a bitmap");
    bitmap.front() |= 1;
    return {};
  }
  Result<Fd> open_device(GroupId /*group*/, const topology::Device & /*device*/) override {
    return fail(ENODEV, "no devices");
  }
  void given_away(GroupId /*group*/, std::string_view /*name*/) override {}
  std::vector<std::string> open_devices(GroupId /*group*/) override { return {}; }

private:
  /// With a hole, and up to the very top.
  static inline const std::vector<IovaRange> usable = {
      {Iova{0}, Iova{0xfedfffff}},
      {Iova{0xfef00000}, Iova{0xffffffffffff}},
      {Iova{UINT64_MAX - 0xfffff}, Iova{UINT64_MAX}}};

  Hardware &hardware_;
};

/// The program that the fuzzer writes.
class HostileProgram {
public:
  explicit HostileProgram(std::span<const std::uint8_t> script) : script_(script) {}

  void run() {
    for (int steps = 0; steps < 200 && !script_.empty(); ++steps)
      step();
    for (const std::uint32_t group : std::set(joined_))
      leave(group);
    require(hardware_.mapped.empty(), "mapped without a group");
  }

private:
  enum class Step : std::uint8_t {
    join,
    leave,
    set_iommu,
    raw_call,
    map,
    unmap,
    info,
    fail,
    count
  };

  static constexpr std::array<std::uint32_t, 12> commands = {
      VFIO_GET_API_VERSION,  VFIO_CHECK_EXTENSION,   VFIO_SET_IOMMU,           VFIO_IOMMU_GET_INFO,
      VFIO_IOMMU_MAP_DMA,    VFIO_IOMMU_UNMAP_DMA,   VFIO_IOMMU_ENABLE,        VFIO_IOMMU_DISABLE,
      VFIO_GROUP_GET_STATUS, VFIO_IOMMU_DIRTY_PAGES, VFIO_GROUP_SET_CONTAINER, 0};

  void step() {
    const auto selector = script_.take<std::uint8_t>();
    const std::uint32_t group = selector >> 6;
    switch (static_cast<Step>(selector % static_cast<std::uint8_t>(Step::count))) {
    case Step::join:
      join(group);
      return;
    case Step::leave:
      leave(group);
      return;
    case Step::set_iommu:
      (void)call(VFIO_SET_IOMMU, script_.take<std::uint8_t>());
      return;
    case Step::raw_call:
      raw_call();
      return;
    case Step::map:
      map_few_pages();
      return;
    case Step::unmap:
      unmap_few_pages(group == 3);
      return;
    case Step::info:
      if (group == 3)
        dirty_pages();
      else
        info();
      return;
    case Step::fail:
      hardware_.failing = std::array{EFAULT, ENOMEM, EBUSY, ESRCH}[group];
      return;
    case Step::count:
      return;
    }
  }

  void join(std::uint32_t number) {
    if (joined_.contains(number))
      return; // Group sees to that.
    if (auto member = container_.join({.id = GroupId{number}, .devices = {}}, 0)) {
      joined_.insert(number);
      members_.insert_or_assign(number, std::move(*member));
    }
    require(hardware_.claimed == joined_, "claimed what did not join");
  }

  void leave(std::uint32_t number) {
    if (joined_.erase(number) != 0)
      container_.leave(*members_.at(number));
    require(hardware_.claimed == joined_, "did not release what left");
  }

  /// Any command, any argument; the memory ends where the fuzzer wants it to.
  void raw_call() {
    const auto which = script_.take<std::uint8_t>();
    const std::uint32_t command =
        which < commands.size() ? commands[which] : script_.take<std::uint32_t>();
    const auto size = script_.take<std::uint8_t>();
    const bool anywhere = size == 0xff;
    const std::uint64_t argument = anywhere ? script_.take<std::uint64_t>() : BufferClient::base;
    client_.memory = script_.take_bytes(size);
    (void)call(command, argument);
  }

  void map_few_pages() {
    vfio_iommu_type1_dma_map request{};
    request.argsz = sizeof(request);
    request.flags = script_.take<std::uint8_t>();
    request.iova = some_iova();
    request.size = some_pages();
    request.vaddr = some_pages();
    (void)call_with(VFIO_IOMMU_MAP_DMA, request);
  }

  void unmap_few_pages(bool with_bitmap) {
    vfio_iommu_type1_dma_unmap request{};
    request.argsz = sizeof(request) + sizeof(vfio_bitmap);
    request.flags =
        with_bitmap ? VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP : script_.take<std::uint8_t>();
    request.iova = some_iova();
    request.size = some_pages();
    if (with_bitmap)
      (void)call_with(VFIO_IOMMU_UNMAP_DMA, request, some_bitmap(request.argsz));
    else
      (void)call_with(VFIO_IOMMU_UNMAP_DMA, request);
  }

  void dirty_pages() {
    vfio_iommu_type1_dirty_bitmap request{};
    vfio_iommu_type1_dirty_bitmap_get range{};
    request.argsz = sizeof(request) + sizeof(range);
    request.flags = script_.take<std::uint8_t>();
    range.iova = some_iova();
    range.size = some_pages();
    range.bitmap = some_bitmap(request.argsz);
    (void)call_with(VFIO_IOMMU_DIRTY_PAGES, request, range);
  }

  /// A bitmap behind an argument of @p offset bytes, or a few bytes elsewhere.
  vfio_bitmap some_bitmap(std::size_t offset) {
    const auto size = script_.take<std::uint8_t>();
    const auto astray = script_.take<std::int8_t>();
    vfio_bitmap bitmap{};
    bitmap.pgsize = size % 8 == 7 ? script_.take<std::uint64_t>() : 0x1000;
    bitmap.size = size;
    bitmap.data = reinterpret_cast<decltype(bitmap.data)>(BufferClient::base + offset + astray);
    return bitmap;
  }

  void info() {
    vfio_iommu_type1_info request{};
    request.argsz = script_.take<std::uint8_t>();
    client_.memory.assign(script_.take<std::uint8_t>(), std::byte{0});
    const auto bytes = std::as_bytes(std::span(&request, 1));
    std::copy_n(bytes.begin(), std::min(bytes.size(), client_.memory.size()),
                client_.memory.begin());
    (void)call(VFIO_IOMMU_GET_INFO, BufferClient::base);
  }

  /// One of 256 pages around each place where something begins or ends.
  std::uint64_t some_iova() {
    static constexpr std::array<std::uint64_t, 4> places = {
        0, 0xfee00000 - 0x80000, (1ULL << 48) - 0x80000, UINT64_MAX - 0xfffff};
    const auto place = script_.take<std::uint8_t>();
    return places[place % 4] + script_.take<std::uint8_t>() * 0x1000ULL +
           (place >> 4 == 15 ? 1 : 0);
  }

  std::uint64_t some_pages() { return script_.take<std::uint8_t>() * 0x1000ULL; }

  /// A call with @p structs as its argument, one behind the other, and room for a small bitmap.
  template <typename... Structs>
  Result<long> call_with(std::uint32_t command, const Structs &...structs) {
    constexpr std::size_t room = 64;
    client_.memory.clear();
    (std::ranges::copy(std::as_bytes(std::span(&structs, 1)), std::back_inserter(client_.memory)),
     ...);
    client_.memory.resize(client_.memory.size() + room);
    return call(command, BufferClient::base);
  }

  /// One call, and what must be true behind it.
  Result<long> call(std::uint32_t command, std::uint64_t argument) {
    const auto before = hardware_.mapped;
    const std::uint32_t flags = flags_at(argument);
    const auto answer = container_.call(client_, command, argument);
    const bool maps = command == VFIO_IOMMU_MAP_DMA && (flags & VFIO_DMA_MAP_FLAG_VADDR) == 0;
    const bool unmaps = command == VFIO_IOMMU_UNMAP_DMA && (flags & VFIO_DMA_UNMAP_FLAG_VADDR) == 0;
    if (unmaps)
      check_unmap(argument, before, answer);
    else if (maps)
      require(hardware_.mapped.size() == before.size() + (answer ? 1 : 0), "map: did otherwise");
    else
      require(hardware_.mapped == before, "a call that is no map or unmap did either");
    if (!answer)
      require(known_errno(answer.error().code), "an errno that type1 does not know");
    require(hardware_.mapped.size() <= mapping_limit, "more mappings than allowed");
    return answer;
  }

  /// The flags of a map or an unmap, which both have behind argsz.
  std::uint32_t flags_at(std::uint64_t argument) {
    std::array<std::uint32_t, 2> head{};
    (void)client_.read(ClientAddr{argument}, std::as_writable_bytes(std::span(head)));
    return head[1];
  }

  void check_unmap(std::uint64_t argument, const std::map<std::uint64_t, std::uint64_t> &before,
                   const Result<long> &answer) {
    std::uint64_t gone = sum_of(before) - sum_of(hardware_.mapped);
    if (!answer) {
      // EFAULT can come when the work is done and only the answer does not arrive. With a bitmap,
      // mappings go one by one.
      require(gone == 0 || answer.error().code == EFAULT || hardware_.tracking,
              "unmap: failed, but did something");
      return;
    }
    vfio_iommu_type1_dma_unmap result{};
    require(client_.read(ClientAddr{argument}, std::as_writable_bytes(std::span(&result, 1)))
                .has_value(),
            "unmap: answered nowhere");
    require(result.size == gone, "unmap: says another size than was unmapped");
  }

  static std::uint64_t sum_of(const std::map<std::uint64_t, std::uint64_t> &mappings) {
    std::uint64_t sum = 0;
    for (const auto &[first, last] : mappings)
      sum += last - first + 1;
    return sum;
  }

  static bool known_errno(int code) {
    static constexpr std::array known = {
        EINVAL, EFAULT, ENOTTY,    ENODEV, EEXIST, ENOSPC, ENOENT,
        EACCES, EPERM,  EOVERFLOW, ENOMEM, EBUSY,  ESRCH}; // The last three only from the backend.
    return std::ranges::find(known, code) != known.end();
  }

  static constexpr std::uint32_t mapping_limit = 12;

  Bytestream script_;
  Hardware hardware_;
  BufferClient client_;
  std::map<std::uint32_t, std::shared_ptr<Membership>> members_; ///< Also of those that have left.
  std::set<std::uint32_t> joined_;
  Container container_{{.make_backend = [this]() -> Result<std::unique_ptr<Backend>> {
                          return std::make_unique<CheckingBackend>(hardware_);
                        },
                        .mapping_limit = mapping_limit},
                       FileNumber{1},
                       Pid{1}};
};

} // namespace
} // namespace vfio_shim

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes, std::size_t size) {
  vfio_shim::HostileProgram({bytes, size}).run();
  return 0;
}
