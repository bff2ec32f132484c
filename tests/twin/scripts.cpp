// SPDX-License-Identifier: MIT
#include "scripts.h"

#include "client/units.h"

#include <initializer_list>
#include <numeric>
#include <utility>

#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "memory_pool.h"

namespace twin {
namespace {

using legacy::page;
namespace gen = rc::gen;

constexpr std::uint64_t pages(std::uint64_t count) {
  return count * page.count;
}

/// A choice with a weight.
template <typename T>
struct Choice {
  std::size_t weight;
  T value;
};

/// One of the choices, by their weights; shrinks towards the first, which is to be the simplest.
template <typename T>
rc::Gen<T> choose(std::vector<Choice<T>> choices) {
  const std::size_t sum =
      std::accumulate(choices.begin(), choices.end(), std::size_t{0},
                      [](std::size_t so_far, const Choice<T> &c) { return so_far + c.weight; });
  return rc::Gen<T>{[=](const rc::Random &random, int) {
    std::size_t rest = rc::Random(random).next() % sum;
    std::size_t index = 0;
    while (rest >= choices[index].weight)
      rest -= choices[index++].weight;
    const auto indexes = rc::shrinkable::shrinkRecur(
        index, [](std::size_t x) { return rc::shrink::towards<std::size_t>(x, 0); });
    return rc::shrinkable::map(indexes, [=](std::size_t i) { return choices[i].value; });
  }};
}

/// As above, of generators.
template <typename T>
rc::Gen<T> choose_from(std::vector<Choice<rc::Gen<T>>> choices) {
  return gen::join(choose(std::move(choices)));
}

/// `usual` nearly always.
template <typename T>
rc::Gen<T> mostly(T usual, std::initializer_list<T> others) {
  constexpr std::size_t against_one = 15;
  std::vector<Choice<T>> choices{{against_one * others.size(), usual}};
  for (const T &other : others)
    choices.push_back({1, other});
  return choose(std::move(choices));
}

template <typename T, typename... Setters>
rc::Gen<Operation> operation(const Setters &...setters) {
  return gen::map(gen::build<T>(setters...), [](T op) { return Operation{std::move(op)}; });
}

rc::Gen<Slot> slot() {
  return choose<Slot>({{6, 0}, {1, 1}});
}

rc::Gen<Place> place() {
  return choose<Place>({{200, Place::Whole},
                        {2, Place::Cut},
                        {2, Place::ReadOnly},
                        {1, Place::Absent},
                        {1, Place::Null}});
}

rc::Gen<Envelope> envelope(std::uint32_t size) {
  return gen::build<Envelope>(
      gen::set(
          &Envelope::argsz,
          choose<std::uint32_t>({{150, size}, {1, 0}, {1, size - 1}, {1, size + 1}, {1, ~0u}})),
      gen::set(&Envelope::place, place()));
}

template <typename Number>
rc::Gen<Number> number_in(Number first, Number end) {
  return gen::resize(rc::kNominalSize, gen::inRange<Number>(first, end));
}

// --- IOVAs and sizes: few of them, so that what is mapped is met again, in whole and in part.

constexpr std::uint64_t interrupts = 0xfee00000; ///< 1 MiB that is reserved on x86.

rc::Gen<std::uint64_t> near(std::uint64_t base, std::uint64_t before, std::uint64_t behind) {
  return gen::map(number_in<std::uint64_t>(0, before + behind),
                  [=](std::uint64_t number) { return base - pages(before) + pages(number); });
}

rc::Gen<std::uint64_t> aligned_iovas() {
  return choose_from<std::uint64_t>({{160, near(0x100000, 0, 20)},
                                     {30, near(0x400000, 0, 4)},
                                     {4, near(0, 0, 3)},
                                     {3, near(interrupts, 3, 2)},
                                     {3, near(interrupts + 0x100000, 3, 2)},
                                     {2, near(1ull << 39, 3, 2)},
                                     {3, near(1ull << 48, 3, 2)},
                                     {1, near(1ull << 57, 3, 2)},
                                     {3, near(0, 4, 0)}});
}

/// Mostly 0: what makes a number misaligned.
rc::Gen<std::uint64_t> odd_bytes() {
  return choose<std::uint64_t>({{150, 0}, {1, 1}, {1, 512}, {1, 2048}, {1, 4095}});
}

rc::Gen<std::uint64_t> sum_of(const rc::Gen<std::uint64_t> &one,
                              const rc::Gen<std::uint64_t> &other) {
  return gen::map(gen::pair(one, other), [](const auto &both) { return both.first + both.second; });
}

rc::Gen<std::uint64_t> iovas() {
  return sum_of(aligned_iovas(), odd_bytes());
}

rc::Gen<std::uint64_t> sizes() {
  const auto few = gen::map(number_in<std::uint64_t>(1, 7), pages);
  const auto many = gen::map(number_in<std::uint64_t>(7, 80), pages);
  const auto extreme =
      gen::element<std::uint64_t>(0, pages(512), pages(513), 1ull << 32, 1ull << 48, 1ull << 63,
                                  ~0ull, -pages(1), -0x100000ull);
  return sum_of(choose_from<std::uint64_t>({{100, few}, {8, many}, {5, extreme}}), odd_bytes());
}

rc::Gen<MemoryAt> memory() {
  using Base = MemoryAt::Base;
  const auto numbers =
      choose_from<std::int64_t>({{30, number_in<std::int64_t>(0, MemoryPool::ordinary_pages)},
                                 {3, gen::element<std::int64_t>(64, 65, 500, 575)},
                                 {1, number_in<std::int64_t>(-4, 0)}});
  const auto in_pool = gen::build<MemoryAt>(
      gen::set(&MemoryAt::page, numbers),
      gen::set(&MemoryAt::byte, choose<std::uint32_t>({{100, 0}, {1, 1}, {1, 8}, {1, 2048}})));
  const auto elsewhere =
      gen::build<MemoryAt>(gen::set(&MemoryAt::base, gen::element(Base::Zero, Base::Kernel)),
                           gen::set(&MemoryAt::page, number_in<std::int64_t>(0, 4)));
  const auto top = gen::build<MemoryAt>(gen::set(&MemoryAt::base, gen::just(Base::Top)),
                                        gen::set(&MemoryAt::page, number_in<std::int64_t>(-8, 0)));
  return choose_from<MemoryAt>({{60, in_pool}, {2, elsewhere}, {2, top}});
}

rc::Gen<Bitmap> bitmap() {
  return gen::build<Bitmap>(
      gen::set(&Bitmap::page_size, mostly<std::uint64_t>(page.count, {0, 2048, 8192, 1 << 21, 3})),
      gen::set(&Bitmap::size,
               choose<std::uint64_t>({{8, 8}, {8, 16}, {4, 128}, {1, 0}, {1, 7}, {1, ~0ull}})),
      gen::set(&Bitmap::place, place()));
}

// --- ioctl numbers that nothing else here is about

rc::Gen<unsigned long> vfio_numbers() {
  return gen::map(number_in<unsigned long>(0, 40), [](unsigned long number) {
    return static_cast<unsigned long>(_IO(VFIO_TYPE, VFIO_BASE + number));
  });
}

rc::Gen<unsigned long> other_numbers() {
  constexpr unsigned long iommufd_base = 0x80;
  const auto of_iommufd = gen::map(number_in<unsigned long>(0, 24), [](unsigned long number) {
    return static_cast<unsigned long>(_IO(VFIO_TYPE, iommufd_base + number));
  });
  return choose_from<unsigned long>(
      {{2, of_iommufd},
       {1, gen::element<unsigned long>(_IO('x', 1), _IOWR('x', 2, char[1000]), 0x5401, 0, ~0ul)}});
}

/// Any number but those that are operations by themselves.
rc::Gen<unsigned long> requests_without(std::vector<unsigned long> known) {
  return gen::suchThat(choose_from<unsigned long>({{3, vfio_numbers()}, {1, other_numbers()}}),
                       [=](unsigned long request) {
                         return std::find(known.begin(), known.end(), request) == known.end();
                       });
}

// --- operations

rc::Gen<Operation> opening_and_closing() {
  return choose_from<Operation>({
      {2, operation<OpenContainer>(gen::set(&OpenContainer::container, slot()))},
      {1, operation<CloseContainer>(gen::set(&CloseContainer::container, slot()))},
      {3, operation<OpenGroup>(gen::set(&OpenGroup::group, slot()))},
      {1, operation<CloseGroup>(gen::set(&CloseGroup::group, slot()))},
      {2, operation<CloseDevice>(gen::set(&CloseDevice::group, slot()))},
  });
}

rc::Gen<Operation> on_a_group() {
  using File = SetContainer::File;
  using Name = GetDeviceFd::Name;
  const auto files = mostly(File::Container, {File::OtherFile, File::OwnGroup, File::Minus1});
  const auto names = choose<Name>({{40, Name::Right},
                                   {1, Name::Absent},
                                   {1, Name::OtherGroups},
                                   {1, Name::Empty},
                                   {1, Name::Short},
                                   {1, Name::Longer},
                                   {1, Name::Space},
                                   {1, Name::Token},
                                   {1, Name::Options}});
  const auto others = requests_without({VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER,
                                        VFIO_GROUP_UNSET_CONTAINER, VFIO_GROUP_GET_DEVICE_FD});
  return choose_from<Operation>({
      {5, operation<SetContainer>(
              gen::set(&SetContainer::file, files), gen::set(&SetContainer::group, slot()),
              gen::set(&SetContainer::container, slot()), gen::set(&SetContainer::place, place()))},
      {1, operation<UnsetContainer>(gen::set(&UnsetContainer::group, slot()))},
      {2, operation<GetStatus>(gen::set(&GetStatus::group, slot()),
                               gen::set(&GetStatus::envelope, envelope(8)))},
      {4, operation<GetDeviceFd>(gen::set(&GetDeviceFd::group, slot()),
                                 gen::set(&GetDeviceFd::device, names),
                                 gen::set(&GetDeviceFd::place, place()))},
      {1, operation<GroupCall>(gen::set(&GroupCall::group, slot()),
                               gen::set(&GroupCall::request, others),
                               gen::set(&GroupCall::place, place()))},
  });
}

rc::Gen<Operation> on_a_device() {
  const auto requests = gen::element<unsigned long>(
      VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_GET_IRQ_INFO,
      VFIO_DEVICE_RESET, VFIO_GROUP_GET_STATUS, _IO('x', 1));
  return operation<DeviceCall>(gen::set(&DeviceCall::group, slot()),
                               gen::set(&DeviceCall::request, requests),
                               gen::set(&DeviceCall::envelope, envelope(64)));
}

rc::Gen<Operation> any_container_call(const Scope &scope) {
  std::vector<unsigned long> known{VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION,
                                   VFIO_SET_IOMMU,       VFIO_IOMMU_GET_INFO,
                                   VFIO_IOMMU_MAP_DMA,   VFIO_IOMMU_UNMAP_DMA};
  known.erase(known.begin()); // Has no operation of its own.
  if (!scope.dirty_tracking)
    known.push_back(VFIO_IOMMU_DIRTY_PAGES);
  for (unsigned long number = 0x80; !scope.iommufds_own && number <= 0xff; ++number)
    known.push_back(_IO(VFIO_TYPE, number));
  return operation<ContainerCall>(gen::set(&ContainerCall::container, slot()),
                                  gen::set(&ContainerCall::request, requests_without(known)),
                                  gen::set(&ContainerCall::place, place()));
}

rc::Gen<Operation> on_a_container(const Scope &scope) {
  const auto types = choose<unsigned long>({{8, VFIO_TYPE1v2_IOMMU},
                                            {4, VFIO_TYPE1_IOMMU},
                                            {1, 0},
                                            {1, 2},
                                            {1, 4},
                                            {1, 5},
                                            {1, 6},
                                            {1, 7},
                                            {1, 8},
                                            {1, 9},
                                            {1, 10},
                                            {1, 11},
                                            {1, ~0ul},
                                            {1, 1ul << 32 | 1}});
  auto extensions = number_in<unsigned long>(0, 13);
  if (!scope.update_vaddr)
    extensions = gen::suchThat(extensions, [](unsigned long n) { return n != VFIO_UPDATE_VADDR; });
  // The chain is some 100 bytes long: both too little and enough room.
  const auto info =
      gen::build<Envelope>(gen::set(&Envelope::argsz, choose<std::uint32_t>({{4, 256},
                                                                             {2, 24},
                                                                             {1, 0},
                                                                             {1, 15},
                                                                             {1, 16},
                                                                             {1, 20},
                                                                             {1, 23},
                                                                             {1, 100},
                                                                             {1, 112},
                                                                             {1, 120},
                                                                             {1, 128},
                                                                             {1, 136}})),
                           gen::set(&Envelope::place, place()));
  std::vector<Choice<rc::Gen<Operation>>> choices{
      {3, operation<CheckExtension>(gen::set(&CheckExtension::container, slot()),
                                    gen::set(&CheckExtension::extension, extensions))},
      {4, operation<GetInfo>(gen::set(&GetInfo::container, slot()),
                             gen::set(&GetInfo::envelope, info))},
      {3, any_container_call(scope)},
  };
  if (scope.set_up)
    choices.push_back({3, operation<SetIommu>(gen::set(&SetIommu::container, slot()),
                                              gen::set(&SetIommu::type, types))});
  return choose_from<Operation>(std::move(choices));
}

rc::Gen<Operation> map_dma(const Scope &scope) {
  constexpr std::uint32_t read = VFIO_DMA_MAP_FLAG_READ;
  constexpr std::uint32_t write = VFIO_DMA_MAP_FLAG_WRITE;
  std::vector<Choice<std::uint32_t>> flags{
      {60, read | write}, {20, read}, {8, write}, {1, 0}, {1, 8 | read}, {1, 1u << 31 | read}};
  if (scope.update_vaddr)
    flags.insert(flags.end(), {{8, VFIO_DMA_MAP_FLAG_VADDR}, {1, VFIO_DMA_MAP_FLAG_VADDR | read}});
  return operation<MapDma>(gen::set(&MapDma::container, slot()), gen::set(&MapDma::iova, iovas()),
                           gen::set(&MapDma::size, sizes()), gen::set(&MapDma::memory, memory()),
                           gen::set(&MapDma::flags, choose(flags)),
                           gen::set(&MapDma::envelope, envelope(32)));
}

rc::Gen<UnmapDma> unmap(const rc::Gen<std::uint32_t> &flags, std::uint32_t argsz) {
  return gen::build<UnmapDma>(gen::set(&UnmapDma::container, slot()),
                              gen::set(&UnmapDma::iova, iovas()),
                              gen::set(&UnmapDma::size, sizes()), gen::set(&UnmapDma::flags, flags),
                              gen::set(&UnmapDma::envelope, envelope(argsz)));
}

rc::Gen<Operation> unmap_dma(const Scope &scope) {
  constexpr std::uint32_t all = VFIO_DMA_UNMAP_FLAG_ALL;
  const std::uint32_t vaddr = scope.update_vaddr ? VFIO_DMA_UNMAP_FLAG_VADDR : 0;
  const auto ranges = choose<std::uint32_t>(
      {{30, 0}, {4, vaddr}, {1, all}, {1, all | vaddr}, {1, 8}, {1, 1u << 31}});
  const auto everything = gen::map(
      gen::pair(choose<std::uint32_t>({{3, all}, {1, all | vaddr}}), slot()), [](const auto &both) {
        UnmapDma op;
        op.flags = both.first;
        op.container = both.second;
        op.envelope.argsz = sizeof(vfio_iommu_type1_dma_unmap);
        return op;
      });
  return gen::map(choose_from<UnmapDma>({{20, unmap(ranges, 24)}, {1, everything}}),
                  [](UnmapDma op) { return Operation{op}; });
}

rc::Gen<Operation> dirty_tracking() {
  constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
  constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
  constexpr std::uint32_t get = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  constexpr std::uint32_t bitmap_flag = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  const auto unmap_flags = choose<std::uint32_t>(
      {{20, bitmap_flag}, {1, bitmap_flag | VFIO_DMA_UNMAP_FLAG_ALL}, {1, bitmap_flag | 8}});
  return choose_from<Operation>({
      {5, operation<DirtyPages>(
              gen::set(&DirtyPages::container, slot()),
              gen::set(&DirtyPages::flags,
                       choose<std::uint32_t>(
                           {{10, start}, {2, stop}, {1, get}, {1, 0}, {1, start | stop}, {1, 8}})),
              gen::set(&DirtyPages::envelope, envelope(8)))},
      {6,
       operation<DirtyBitmap>(
           gen::set(&DirtyBitmap::container, slot()),
           gen::set(&DirtyBitmap::flags, mostly<std::uint32_t>(get, {start, stop, get | stop, 0})),
           gen::set(&DirtyBitmap::iova, iovas()), gen::set(&DirtyBitmap::size, sizes()),
           gen::set(&DirtyBitmap::bitmap, bitmap()),
           gen::set(&DirtyBitmap::envelope, envelope(48)))},
      {3, operation<UnmapGettingDirty>(gen::set(&UnmapGettingDirty::unmap, unmap(unmap_flags, 48)),
                                       gen::set(&UnmapGettingDirty::bitmap, bitmap()))},
  });
}

rc::Gen<Operation> in_memory() {
  constexpr std::int64_t last = MemoryPool::ordinary_pages;
  const auto written = choose_from<std::int64_t>(
      {{10, number_in<std::int64_t>(0, last)}, {1, gen::element<std::int64_t>(64, 65, 575)}});
  const auto changed = gen::map(
      gen::tuple(
          number_in<std::int64_t>(0, last), number_in<std::int64_t>(1, 5),
          choose<int>({{3, PROT_READ}, {3, PROT_READ | PROT_WRITE}, {1, PROT_WRITE}, {2, 0}})),
      [](const auto &parts) {
        const auto [page, count, protection] = parts;
        return Operation{ChangeMemory{page, std::min(count, last - page), protection}};
      });
  return choose_from<Operation>(
      {{4,
        operation<WriteMemory>(gen::set(&WriteMemory::page, written),
                               gen::set(&WriteMemory::seed, number_in<std::uint32_t>(100, 1000)))},
       {1, changed}});
}

rc::Gen<Operation> dma() {
  const auto low = near(0x100000, 0, 16);
  return operation<CopyByDma>(gen::set(&CopyByDma::group, slot()), gen::set(&CopyByDma::from, low),
                              gen::set(&CopyByDma::to, low));
}

rc::Gen<Operation> operations(const Scope &scope) {
  std::vector<Choice<rc::Gen<Operation>>> choices{
      {400, map_dma(scope)}, {240, unmap_dma(scope)}, {100, on_a_container(scope)},
      {20, on_a_device()},   {40, in_memory()},       {1, dma()},
  };
  if (scope.set_up) {
    choices.push_back({60, on_a_group()});
    choices.push_back({20, opening_and_closing()});
  }
  if (scope.dirty_tracking)
    choices.push_back({120, dirty_tracking()});
  return choose_from<Operation>(std::move(choices));
}

/// What a program does before it maps anything, as far as it comes; all of it where nothing of that
/// kind may follow.
rc::Gen<std::vector<Operation>> beginnings(const Scope &scope) {
  const std::vector<Operation> opened{OpenContainer{0}, OpenGroup{0}, SetContainer{}};
  const auto with = [](std::vector<Operation> some, std::initializer_list<Operation> more) {
    some.insert(some.end(), more);
    return some;
  };
  const auto set = with(opened, {SetIommu{0, VFIO_TYPE1v2_IOMMU}});
  const auto set_v1 = with(opened, {SetIommu{0, VFIO_TYPE1_IOMMU}});
  SetContainer second_group;
  second_group.group = 1;
  if (!scope.set_up)
    return choose<std::vector<Operation>>(
        {{2, with(set, {GetDeviceFd{}})}, {1, with(set_v1, {GetDeviceFd{}})}});
  return choose<std::vector<Operation>>({
      {1, {}},
      {1, opened},
      {4, set},
      {2, set_v1},
      {4, with(set, {GetDeviceFd{}})},
      {2, with(set_v1, {GetDeviceFd{}})},
      {3, with(set, {GetDeviceFd{}, OpenGroup{1}, second_group, GetDeviceFd{1}, OpenContainer{1}})},
      {1,
       with(set, {OpenContainer{1}, OpenGroup{1}, SetContainer{SetContainer::File::Container, 1, 1},
                  SetIommu{1, VFIO_TYPE1v2_IOMMU}, GetDeviceFd{1}})},
  });
}

} // namespace

rc::Gen<Script> scripts(Scope scope, int length) {
  const auto rest = gen::resize(length, gen::container<std::vector<Operation>>(operations(scope)));
  return gen::map(gen::pair(beginnings(scope), rest), [](const auto &both) {
    Script script{both.first};
    script.operations.insert(script.operations.end(), both.second.begin(), both.second.end());
    return script;
  });
}

} // namespace twin
