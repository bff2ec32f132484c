// SPDX-License-Identifier: MIT
#include "cli/trace_report.hpp"

#include "cli/human.hpp"
#include "cli/trace_text.hpp"
#include "observe/mapped_bytes.hpp"

#include "vfio_shim/result.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <span>
#include <string>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ostream.h>

namespace vfio_shim::cli {

namespace {

using json = nlohmann::ordered_json;
using observe::Recording;
using trace::Record;

double microseconds(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e3;
}

double seconds(std::uint64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1e9;
}

std::string local_time(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}",
                     fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

std::string iso_time(const Recording &recording, std::uint64_t at) {
  const auto time = recording.began.time_since_epoch() + std::chrono::nanoseconds(at);
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(whole.count()),
                     std::chrono::nanoseconds(time - whole).count());
}

/// "VFIO_IOMMU_MAP_DMA(iova 0x0, ...) = 0".
std::string call_text(const Record &record) {
  const std::string what =
      record.kind == trace::Kind::call
          ? fmt::format("{}({})", call_name(record), printable(argument_text(record)))
          : call_name(record);
  return fmt::format("{} = {}", what, result_text(record));
}

std::string line_of(const Record &record) {
  const std::string client = fmt::format("{}[{}]", printable(client_name(record)), record.pid);
  std::string line =
      fmt::format("{:>12.6f} {:>9.1f} {:>8.1f} {:>8.1f} {:>8.1f} {:>8.1f}  {:<22}  "
                  "{:<12}  {}",
                  seconds(record.at), microseconds(record.total), microseconds(record.in),
                  microseconds(record.borrow), microseconds(record.kernel),
                  microseconds(record.out), client, file_text(record), call_text(record));
  if (record.stretches != 0)
    line += fmt::format("  <{}>", memory_text(record));
  return line;
}

std::string hexadecimal(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes)
    fmt::format_to(std::back_inserter(text), "{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

json memory_json(const Record &record) {
  json list = json::array();
  for (const trace::Memory &memory : trace::known_memory(record))
    list.push_back({{"kind", memory_kind_name(memory.kind)},
                    {"size", memory.size},
                    {"page_size", memory.page_size},
                    {"shared", (memory.flags & trace::Memory::shared) != 0},
                    {"by_file", (memory.flags & trace::Memory::by_file) != 0}});
  return list;
}

json durations_json(const Record &record) {
  return {{"total", record.total},
          {"in", record.in},
          {"borrow", record.borrow},
          {"kernel", record.kernel},
          {"out", record.out}};
}

/// Clients may call themselves anything, and JSON takes UTF-8 only.
std::string as_text(const json &value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json slice_of(const Record &record) {
  json arguments = {{"file", file_text(record)},
                    {"argument", argument_text(record)},
                    {"result", result_text(record)},
                    {"memory", memory_text(record)},
                    {"took, ns", durations_json(record)}};
  return {{"ph", "X"},
          {"cat", record.of_group != 0 ? "group" : "container"},
          {"name", call_name(record)},
          {"pid", record.pid},
          {"tid", record.thread},
          {"ts", microseconds(record.at)},
          {"dur", microseconds(record.total)},
          {"args", std::move(arguments)}};
}

json process_name(const Record &record) {
  return {{"ph", "M"},
          {"name", "process_name"},
          {"pid", record.pid},
          {"args", {{"name", client_name(record)}}}};
}

json counter(const Record &record, const observe::MappedBytes::Change &change) {
  return {{"ph", "C"},
          {"name", fmt::format("mapped bytes, container {}", change.container)},
          {"pid", record.pid},
          {"ts", microseconds(record.at + record.total)},
          {"args", {{"bytes", change.bytes.value}}}};
}

} // namespace

void print_trace_text(const Recording &recording, std::ostream &out) {
  fmt::print(out, "recorded at /dev/{} on {}, Linux {}, since {}; {} calls",
             printable(recording.prefix), printable(recording.backend), printable(recording.kernel),
             local_time(recording.began), recording.records.size());
  if (recording.lost != 0)
    fmt::print(out, ", {} more were lost", recording.lost);
  fmt::print(out, "\n\n{:>12} {:>9} {:>8} {:>8} {:>8} {:>8}  {:<22}  {:<12}  {}\n", "SECONDS",
             "TOOK, us", "IN", "BORROW", "KERNEL", "OUT", "CLIENT", "FILE", "CALL");
  for (const Record &record : recording.records)
    fmt::print(out, "{}\n", line_of(record));
}

json trace_json(const Recording &recording, const Record &record) {
  json object = {{"sequence", record.sequence},
                 {"time", iso_time(recording, record.at)},
                 {"at", record.at},
                 {"pid", record.pid},
                 {"thread", record.thread},
                 {"client", client_name(record)},
                 {"file", record.file},
                 {"node", record.of_group != 0 ? "group" : "container"}};
  if (record.of_group != 0)
    object["group"] = record.group;
  object["call"] = call_name(record);
  if (record.kind == trace::Kind::call) {
    const std::size_t size = std::max(record.was_read, record.was_written);
    object["command"] = record.command;
    object["argument"] = fmt::format("{:#x}", record.argument);
    object["before"] = hexadecimal(std::span(record.before).first(record.was_read));
    object["after"] = hexadecimal(std::span(record.after).first(size));
    object["text"] = argument_text(record);
  }
  if (record.other != 0)
    object["container"] = record.other;
  if (record.stretches != 0)
    object["memory"] = memory_json(record);
  object["result"] = record.result;
  object["errno"] = record.error;
  object["error"] = record.error != 0 ? errno_name(record.error) : "";
  object["took"] = durations_json(record);
  return object;
}

void print_trace_chrome(const Recording &recording, std::ostream &out) {
  std::set<std::int32_t> named;
  observe::MappedBytes mapped;
  out << R"({"displayTimeUnit":"ns","traceEvents":[)";
  const char *separator = "\n";
  const auto print = [&](const json &event) {
    out << std::exchange(separator, ",\n") << as_text(event);
  };
  for (const Record &record : recording.records) {
    if (named.insert(record.pid).second)
      print(process_name(record));
    print(slice_of(record));
    for (const auto &change : mapped.follow(record))
      print(counter(record, change));
  }
  out << "\n]}\n";
}

} // namespace vfio_shim::cli
