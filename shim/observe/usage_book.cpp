#include "observe/usage_book.hpp"

#include "observe/trace_access.hpp"
#include "observe/write_all.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace {

using nlohmann::json;

constexpr int version = 1;

constexpr std::array<std::string_view, features> names = {
    "container",    "group",          "device",      "vf_token",     "type1",
    "type1v2",      "no_iommu",       "map_private", "map_shared",   "map_hugetlb",
    "map_file",     "map_device",     "unmap",       "unmap_all",    "dirty_tracking",
    "update_vaddr", "asks_extension", "asks_info",   "unknown_ioctl"};

using trace::argument_of;

Feature feature_of(const trace::Memory &memory) {
  const bool shared = (memory.flags & trace::Memory::shared) != 0;
  switch (static_cast<MemoryKind>(memory.kind)) {
  case MemoryKind::device:
    return Feature::map_device;
  case MemoryKind::hugetlb:
    return Feature::map_hugetlb;
  case MemoryKind::shmem:
    return shared ? Feature::map_shared : Feature::map_private;
  case MemoryKind::file:
    return Feature::map_file;
  default:
    return Feature::map_private;
  }
}

/// Collects features.
class Used {
public:
  void add(Feature feature) { all_.set(static_cast<std::size_t>(feature)); }
  const std::bitset<features> &all() const { return all_; }

private:
  std::bitset<features> all_;
};

void add_map(const trace::Record &record, Used &used) {
  if ((argument_of<vfio_iommu_type1_dma_map>(record).flags & VFIO_DMA_MAP_FLAG_VADDR) != 0)
    used.add(Feature::update_vaddr);
  for (const trace::Memory &memory : trace::known_memory(record))
    used.add(feature_of(memory));
}

void add_unmap(const trace::Record &record, Used &used) {
  const auto flags = argument_of<vfio_iommu_type1_dma_unmap>(record).flags;
  if ((flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) != 0)
    used.add(Feature::dirty_tracking);
  if ((flags & VFIO_DMA_UNMAP_FLAG_VADDR) != 0)
    used.add(Feature::update_vaddr);
  used.add((flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0 ? Feature::unmap_all : Feature::unmap);
}

void add_iommu(std::uint64_t type, Used &used) {
  if (type == VFIO_TYPE1_IOMMU)
    used.add(Feature::type1);
  else if (type == VFIO_TYPE1v2_IOMMU)
    used.add(Feature::type1v2);
  else if (type == VFIO_NOIOMMU_IOMMU)
    used.add(Feature::no_iommu);
}

void add_device(const trace::Record &record, Used &used) {
  used.add(Feature::device);
  if (std::ranges::find(record.before, std::byte{' '}) != record.before.end())
    used.add(Feature::vf_token);
}

void add_call(const trace::Record &record, Used &used) {
  switch (record.command) {
  case VFIO_CHECK_EXTENSION:
    return used.add(Feature::asks_extension);
  case VFIO_SET_IOMMU:
    return add_iommu(record.argument, used);
  case VFIO_IOMMU_GET_INFO:
    return used.add(Feature::asks_info);
  case VFIO_IOMMU_MAP_DMA:
    return add_map(record, used);
  case VFIO_IOMMU_UNMAP_DMA:
    return add_unmap(record, used);
  case VFIO_IOMMU_DIRTY_PAGES:
    return used.add(Feature::dirty_tracking);
  case VFIO_GROUP_GET_DEVICE_FD:
    return add_device(record, used);
  case VFIO_GET_API_VERSION:
  case VFIO_GROUP_GET_STATUS:
  case VFIO_GROUP_SET_CONTAINER:
  case VFIO_GROUP_UNSET_CONTAINER:
    return; // Everybody does.
  default:
    return used.add(Feature::unknown_ioctl);
  }
}

json to_json(const ProgramUse &use) {
  json object = json::object();
  for (std::size_t index = 0; index < features; ++index)
    if (const FeatureUse &feature = use.uses[index]; feature.calls != 0)
      object[std::string(names[index])] = {{"calls", feature.calls},
                                           {"failed", feature.failed},
                                           {"first", feature.first},
                                           {"last", feature.last}};
  return object;
}

ProgramUse from_json(const json &object) {
  ProgramUse use;
  for (std::size_t index = 0; index < features; ++index)
    if (const auto found = object.find(names[index]); found != object.end())
      use.uses[index] = {.calls = found->at("calls").get<std::uint64_t>(),
                         .failed = found->at("failed").get<std::uint64_t>(),
                         .first = found->at("first").get<std::int64_t>(),
                         .last = found->at("last").get<std::int64_t>()};
  return use;
}

} // namespace

std::string_view feature_name(Feature feature) {
  return names.at(static_cast<std::size_t>(feature));
}

std::bitset<features> features_of(const trace::Record &record) {
  Used used;
  if (record.kind == trace::Kind::open_container)
    used.add(Feature::container);
  else if (record.kind == trace::Kind::open_group)
    used.add(Feature::group);
  else if (record.kind == trace::Kind::call)
    add_call(record, used);
  return used.all();
}

void FeatureUse::add(const FeatureUse &more) {
  if (more.calls == 0)
    return;
  first = calls == 0 ? more.first : std::min(first, more.first);
  last = std::max(last, more.last);
  calls += more.calls;
  failed += more.failed;
}

std::int64_t ProgramUse::first() const {
  std::int64_t first = 0;
  for (const FeatureUse &use : uses)
    if (use.calls != 0 && (first == 0 || use.first < first))
      first = use.first;
  return first;
}

std::int64_t ProgramUse::last() const {
  return std::ranges::max(uses, {}, &FeatureUse::last).last;
}

void ProgramUse::add(const ProgramUse &more) {
  for (std::size_t index = 0; index < features; ++index)
    uses[index].add(more.uses[index]);
}

void UsageBook::add(std::string_view name, const ProgramUse &use) {
  const std::string tidied = printable(name.substr(0, longest_name));
  if (!programs_.contains(tidied) && programs_.size() >= most_programs)
    make_room();
  programs_[tidied].add(use);
}

void UsageBook::add(const UsageBook &more) {
  for (const auto &[name, use] : more.programs_)
    add(name, use);
}

void UsageBook::make_room() {
  // Anybody may open the container; a device is given to few. So those who have one stay.
  const auto worth = [](const Programs::value_type &entry) {
    return std::tuple(entry.first == others, entry.second[Feature::device].calls != 0,
                      entry.second.last());
  };
  const std::size_t wanted = programs_.contains(others) ? 1 : 2;
  ProgramUse gone;
  while (programs_.size() + wanted > most_programs) {
    const auto least = std::ranges::min_element(programs_, {}, worth);
    gone.add(least->second);
    programs_.erase(least);
  }
  programs_[std::string(others)].add(gone);
}

Result<UsageBook> UsageBook::load(const std::filesystem::path &file) {
  std::ifstream in(file);
  if (!in)
    return fail_errno(file);
  std::string text;
  std::getline(in, text, '\0'); // An istreambuf_iterator would throw if reading fails.
  try {
    const json root = json::parse(text);
    if (root.at("version").get<int>() > version)
      return fail(EPROTO, fmt::format("{}: made by a newer vfio-shim", file.string()));
    UsageBook book;
    for (const auto &[name, use] : root.at("programs").items())
      book.add(name, from_json(use));
    return book;
  } catch (const json::exception &damage) {
    return fail(EBADMSG, fmt::format("{}: it is damaged", file.string()));
  }
}

Result<void> UsageBook::save(const std::filesystem::path &file) const {
  json root = {{"version", version}, {"programs", json::object()}};
  for (const auto &[name, use] : programs_)
    root["programs"][name] = to_json(use);
  const std::string next = file.string() + ".new";
  const Fd out{::open(next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644)};
  if (!out)
    return fail_errno(next);
  const std::string text = root.dump(1) + '\n';
  const auto written = write_all(out, std::as_bytes(std::span(text)));
  if (!written)
    return fail(written.error().code, next);
  if (::fsync(out.get()) != 0)
    return fail_errno(next);
  if (::rename(next.c_str(), file.c_str()) != 0)
    return fail_errno(file);
  return {};
}

std::filesystem::path usage_file(const std::filesystem::path &state) {
  return state / "usage.json";
}

} // namespace vfio_shim::observe
