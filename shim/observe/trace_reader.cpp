// SPDX-License-Identifier: MIT
#include "observe/trace_reader.hpp"

#include "observe/process_identity.hpp"
#include "observe/text.hpp"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

namespace vfio_shim::observe {

namespace {

using Time = std::chrono::system_clock::time_point;

Result<trace::Header> read_header(std::ifstream &in, const std::filesystem::path &file) {
  trace::Header header{};
  in.read(reinterpret_cast<char *>(&header), sizeof(header));
  const auto size = static_cast<std::size_t>(in.gcount());
  if (size < sizeof(header.magic) || header.magic != trace::magic)
    return fail(EPROTO, fmt::format("{}: not a recording of vfio-shim", file.string()));
  // What is cut off is 0.
  if (header.version > trace::version)
    return fail(
        EPROTO,
        fmt::format("{}: made by a newer vfio-shim: its format is {}, this program knows {}",
                    file.string(), header.version, trace::version));
  if (size < sizeof(header))
    return fail(ENODATA, fmt::format("{}: cut off within its header", file.string()));
  if (header.version != trace::version || header.header_size != sizeof(trace::Header) ||
      header.record_size != sizeof(trace::Record))
    return fail(EPROTO, fmt::format("{}: its header is damaged", file.string()));
  return header;
}

bool is_known(const trace::Record &record) {
  return record.kind >= trace::Kind::open_container && record.kind <= trace::Kind::end &&
         record.was_read <= trace::most_bytes && record.was_written <= trace::most_bytes;
}

} // namespace

Result<Recording> read_recording(const std::filesystem::path &file) {
  std::error_code error;
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file, error))
    return fail(in ? EISDIR : errno, fmt::format("{}: cannot read it: {}", file.string(),
                                                 errno_name(in ? EISDIR : errno)));
  const auto header = read_header(in, file);
  if (!header)
    return pass_on(header);

  Recording recording{.began = Time{std::chrono::duration_cast<Time::duration>(
                          std::chrono::nanoseconds(header->began))},
                      .kernel = text_of(header->kernel),
                      .prefix = text_of(header->prefix),
                      .backend = text_of(header->backend),
                      .records = {},
                      .end = Recording::End::missing};
  trace::Record record{};
  while (in.read(reinterpret_cast<char *>(&record), sizeof(record))) {
    if (!is_known(record))
      return fail(EPROTO, fmt::format("{}: record {} is damaged", file.string(),
                                      recording.records.size() + 1));
    if (record.kind == trace::Kind::end) {
      recording.end = Recording::End::whole;
      recording.lost = static_cast<std::uint64_t>(record.result);
      break;
    }
    recording.records.push_back(record);
  }
  std::ranges::sort(recording.records, {}, &trace::Record::sequence);
  if (recording.end == Recording::End::whole)
    return recording;

  if (!recording.records.empty()) {
    const auto last = recording.records.back().sequence;
    recording.lost = last - std::min<std::uint64_t>(last, recording.records.size());
  }
  if (in.gcount() != 0)
    recording.end = Recording::End::cut;
  if (still_runs(Pid{header->daemon_pid}, header->daemon_started))
    recording.end = Recording::End::running;
  return recording;
}

std::string Recording::complaint(const std::filesystem::path &file) const {
  switch (end) {
  case End::cut:
    return fmt::format("{}: cut off in the middle of a record: its tail is missing", file.string());
  case End::missing:
    return fmt::format("{}: its tail is missing: the daemon died, or could not write on",
                       file.string());
  default:
    return {};
  }
}

} // namespace vfio_shim::observe
