// SPDX-License-Identifier: MIT
#include "observe/usage_book.hpp"

#include "observe/trace_access.hpp"
#include "observe/write_all.hpp"
#include "rules/match.hpp"

#include "vfio_shim/call_witness.hpp"
#include "vfio_shim/fd.hpp"
#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <cerrno>
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
    "container",    "group",          "device",      "vf_token",      "type1",
    "type1v2",      "no_iommu",       "map_private", "map_shared",    "map_hugetlb",
    "map_file",     "map_device",     "unmap",       "unmap_all",     "dirty_tracking",
    "update_vaddr", "asks_extension", "asks_info",   "mapping_limit", "unknown_ioctl"};

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

void add_map(const trace::Record &record, const rules::MapDma &map, Used &used) {
  if (map.vaddr_only())
    used.add(Feature::update_vaddr);
  if (record.error == ENOSPC)
    used.add(Feature::mapping_limit);
  for (const trace::Memory &memory : trace::known_memory(record))
    used.add(feature_of(memory));
}

void add_unmap(const rules::UnmapDma &unmap, Used &used) {
  if (unmap.gets_bitmap())
    used.add(Feature::dirty_tracking);
  if (unmap.vaddr_only())
    used.add(Feature::update_vaddr);
  used.add(unmap.all() ? Feature::unmap_all : Feature::unmap);
}

void add_iommu(const rules::SetIommu &set, Used &used) {
  if (set.type == VFIO_TYPE1_IOMMU)
    used.add(Feature::type1);
  else if (set.type == VFIO_TYPE1v2_IOMMU)
    used.add(Feature::type1v2);
  else if (set.type == VFIO_NOIOMMU_IOMMU)
    used.add(Feature::no_iommu);
}

void add_device(const rules::GetDeviceFd &get, Used &used) {
  used.add(Feature::device);
  if (!get.options().empty())
    used.add(Feature::vf_token);
}

void add_call(const trace::Record &record, Used &used) {
  rules::match(
      trace::call_of(record),
      [&](const rules::CheckExtension & /*call*/) { used.add(Feature::asks_extension); },
      [&](const rules::SetIommu &set) { add_iommu(set, used); },
      [&](const rules::GetInfo & /*call*/) { used.add(Feature::asks_info); },
      [&](const rules::MapDma &map) { add_map(record, map, used); },
      [&](const rules::UnmapDma &unmap) { add_unmap(unmap, used); },
      [&](const rules::DirtyPages & /*call*/) { used.add(Feature::dirty_tracking); },
      [&](const rules::GetDeviceFd &get) { add_device(get, used); },
      [&](const rules::UnknownCall & /*call*/) { used.add(Feature::unknown_ioctl); },
      [](const auto & /*what everybody does*/) {});
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
