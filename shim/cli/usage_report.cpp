// SPDX-License-Identifier: MIT
#include "cli/usage_report.hpp"

#include "cli/human.hpp"
#include "cli/table.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace vfio_shim::cli {

namespace {

using json = nlohmann::ordered_json;
using observe::Feature;
using observe::FeatureUse;
using observe::ProgramUse;
using observe::UsageBook;
using Time = std::chrono::system_clock::time_point;
using Program = ProgramsOnHosts::value_type;

/// A feature for people, and what it takes on iommufd; "": nothing special.
struct Meaning {
  Feature feature;
  std::string_view name;
  std::string_view obstacle;
};

constexpr std::array<Meaning, observe::features> meanings = {{
    {Feature::no_iommu, "no-IOMMU mode", "no-IOMMU mode: device nodes (cdevs) have none"},
    {Feature::update_vaddr, "VFIO_UPDATE_VADDR (live update)",
     "live update by VFIO_UPDATE_VADDR: iommufd has IOMMU_IOAS_CHANGE_PROCESS instead (Linux 6.14),"
     " for memory that is mapped by file"},
    {Feature::map_device, "maps of device memory (peer-to-peer)",
     "peer-to-peer: device memory is mapped as a dma-buf, which the device must export "
     "(Linux 6.19, CONFIG_VFIO_PCI_DMABUF)"},
    {Feature::dirty_tracking, "dirty page tracking",
     "dirty page tracking: type1 calls every pinned page dirty, iommufd needs an IOMMU that tracks "
     "them (IOMMU_HWPT_SET_DIRTY_TRACKING) or a device that does"},
    {Feature::type1, "IOMMU type TYPE1",
     "IOMMU type 1 (not v2): unmaps may name parts of mappings there, iommufd unmaps what was "
     "mapped or nothing"},
    {Feature::vf_token, "VF tokens",
     "VF tokens: given when a cdev is bound, VFIO_DEVICE_BIND_FLAG_TOKEN (Linux 6.17)"},
    {Feature::mapping_limit, "maps beyond the limit of mappings",
     "the limit of mappings: iommufd has none, memory is the limit"},
    {Feature::unknown_ioctl, "ioctls that no container or group has",
     "ioctls that the legacy API does not have either: look with --record what they are"},
    {Feature::container, "containers opened", ""},
    {Feature::group, "groups opened", ""},
    {Feature::device, "devices opened", ""},
    {Feature::type1v2, "IOMMU type TYPE1v2", ""},
    {Feature::map_private, "maps of private memory", ""},
    {Feature::map_shared, "maps of shared memory", ""},
    {Feature::map_hugetlb, "maps of hugetlb pages", ""},
    {Feature::map_file, "maps of files' memory", ""},
    {Feature::unmap, "unmaps", ""},
    {Feature::unmap_all, "unmaps of everything", ""},
    {Feature::asks_extension, "questions for extensions", ""},
    {Feature::asks_info, "questions for the IOMMU's properties", ""},
}};

/// The features that clients do without which map by themselves (`serve --express`).
constexpr std::array express_lacks{Feature::update_vaddr, Feature::map_device,
                                   Feature::dirty_tracking, Feature::mapping_limit};

/// What the program's own code must learn.
std::string own_code(std::string_view program) {
  const auto name = program.substr(program.rfind('/') + 1);
  if (name.starts_with("qemu-"))
    return "QEMU 9.0 or newer speaks iommufd: -object iommufd,id=iommufd0 and "
           "-device vfio-pci,iommufd=iommufd0,...";
  if (program == UsageBook::others)
    return "each of these programs must speak iommufd";
  return "it must speak iommufd (/dev/iommu, /dev/vfio/devices/): ask for a version that does";
}

Time time_of(std::int64_t seconds) {
  return Time{std::chrono::seconds(seconds)};
}

std::string ago(std::int64_t seconds, Time now) {
  return human_duration(std::chrono::duration_cast<std::chrono::seconds>(now - time_of(seconds))) +
         " ago";
}

std::string iso_time(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(seconds));
}

std::string day(std::int64_t seconds) {
  return fmt::format("{:%Y-%m-%d}", fmt::localtime(seconds));
}

std::vector<const Program *> latest_first(const ProgramsOnHosts &programs) {
  std::vector<const Program *> sorted;
  for (const Program &program : programs)
    sorted.push_back(&program);
  std::ranges::stable_sort(sorted, std::greater<>(),
                           [](const Program *program) { return program->second.use.last(); });
  return sorted;
}

std::string features_text(const ProgramUse &use, Time now) {
  using enum Table::Align;
  Table table({{.title = "  USED", .align = left},
               {.title = "CALLS", .align = right},
               {.title = "FAILED", .align = right},
               {.title = "SINCE", .align = left},
               {.title = "LAST", .align = left}});
  for (const Meaning &meaning : meanings) {
    const FeatureUse &feature = use[meaning.feature];
    if (feature.calls != 0)
      table.add_row({fmt::format("  {}", meaning.name), std::to_string(feature.calls),
                     std::to_string(feature.failed), day(feature.first), ago(feature.last, now)});
  }
  return table.text();
}

} // namespace

std::vector<std::string> obstacles(std::string_view program, const ProgramUse &use) {
  std::vector<std::string> lines{own_code(program)};
  for (const Meaning &meaning : meanings)
    if (use[meaning.feature].calls != 0 && !meaning.obstacle.empty())
      lines.emplace_back(meaning.obstacle);
  return lines;
}

std::vector<std::string> lacking_in_express(const ProgramUse &use) {
  std::vector<std::string> lacking;
  for (const Meaning &meaning : meanings)
    if (use[meaning.feature].calls != 0 &&
        std::ranges::find(express_lacks, meaning.feature) != express_lacks.end())
      lacking.emplace_back(meaning.name);
  return lacking;
}

ProgramsOnHosts programs_here(const UsageBook &book) {
  ProgramsOnHosts programs;
  for (const auto &[name, use] : book.programs())
    programs.emplace(name, ProgramOnHosts{.use = use, .hosts = {}});
  return programs;
}

std::string usage_text(const ProgramsOnHosts &programs, Time now) {
  std::string text;
  for (const Program *program : latest_first(programs)) {
    const auto &[name, entry] = *program;
    const ProgramUse &use = entry.use;
    text += fmt::format("{}{}\n", text.empty() ? "" : "\n", printable(name));
    if (!entry.hosts.empty())
      text += fmt::format("  on {}: {}\n", counted(entry.hosts.size(), "host"),
                          fmt::join(entry.hosts, ", "));
    text += features_text(use, now);
    text += "  To run natively on iommufd:\n";
    const auto lines = obstacles(name, use);
    for (const std::string &line : lines)
      text += fmt::format("  - {}\n", line);
    if (lines.size() == 1)
      text += "  Nothing else that it uses stands in the way.\n";
    const auto lacking = lacking_in_express(use);
    text += lacking.empty() ? "  To run with --express: nothing that it uses is missing there.\n"
                            : fmt::format("  To run with --express it would do without: {}.\n",
                                          fmt::join(lacking, ", "));
  }
  return text;
}

json usage_json(const ProgramsOnHosts &programs, const std::string &host) {
  json all = json::array();
  for (const Program *program : latest_first(programs)) {
    const auto &[name, entry] = *program;
    const ProgramUse &use = entry.use;
    json used = json::object();
    for (std::size_t index = 0; index < observe::features; ++index)
      if (const FeatureUse &feature = use.uses[index]; feature.calls != 0)
        used[std::string(observe::feature_name(static_cast<Feature>(index)))] = {
            {"calls", feature.calls},
            {"failed", feature.failed},
            {"first", iso_time(feature.first)},
            {"last", iso_time(feature.last)}};
    all.push_back({{"program", name},
                   {"first", iso_time(use.first())},
                   {"last", iso_time(use.last())},
                   {"features", std::move(used)},
                   {"obstacles", obstacles(name, use)},
                   {"express_lacks", lacking_in_express(use)}});
    if (!entry.hosts.empty())
      all.back()["hosts"] = entry.hosts;
  }
  json root = json::object();
  if (!host.empty())
    root["host"] = host;
  root["programs"] = std::move(all);
  return root;
}

} // namespace vfio_shim::cli
