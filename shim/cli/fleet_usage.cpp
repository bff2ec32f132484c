// SPDX-License-Identifier: MIT
#include "cli/fleet_usage.hpp"

#include "vfio_shim/printable.hpp"

#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

using nlohmann::json;
using observe::Feature;

std::string tidied(std::string_view name) {
  return printable(name.substr(0, observe::UsageBook::longest_name));
}

std::int64_t seconds_of(const std::string &iso_time) {
  std::tm time{};
  const char *end = ::strptime(iso_time.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time);
  if (end == nullptr || *end != '\0')
    throw std::invalid_argument(iso_time);
  return ::timegm(&time);
}

observe::ProgramUse use_of(const json &features) {
  observe::ProgramUse use;
  for (std::size_t index = 0; index < observe::features; ++index) {
    const auto name = observe::feature_name(static_cast<Feature>(index));
    if (const auto found = features.find(name); found != features.end())
      use.uses[index] = {.calls = found->at("calls").get<std::uint64_t>(),
                         .failed = found->at("failed").get<std::uint64_t>(),
                         .first = seconds_of(found->at("first").get<std::string>()),
                         .last = seconds_of(found->at("last").get<std::string>())};
  }
  return use;
}

/// A program's own hosts, if it has been merged before; else the file's.
std::set<std::string> hosts_of(const json &program, const std::string &host) {
  std::set<std::string> hosts;
  for (const auto &name : program.value("hosts", json::array()))
    hosts.insert(tidied(name.get<std::string>()));
  if (hosts.empty())
    hosts.insert(host);
  return hosts;
}

} // namespace

Result<void> add_usage_json(ProgramsOnHosts &programs, std::string_view text,
                            std::string_view file_name) {
  ProgramsOnHosts added;
  try {
    const json root = json::parse(text);
    const std::string host = tidied(root.value("host", std::string(file_name)));
    for (const json &program : root.at("programs")) {
      auto &entry = added[tidied(program.at("program").get<std::string>())];
      entry.use.add(use_of(program.at("features")));
      entry.hosts.merge(hosts_of(program, host));
    }
  } catch (const std::exception &) { // Of the parser, of a wrong type, of a time that is none.
    return fail(EBADMSG, fmt::format("{}: not the output of `vfio-shim usage --json`", file_name));
  }
  for (auto &[name, entry] : added) {
    programs[name].use.add(entry.use);
    programs[name].hosts.merge(entry.hosts);
  }
  return {};
}

} // namespace vfio_shim::cli
