// SPDX-License-Identifier: MIT
#include "cli/backend_option.hpp"
#include "cli/command_line.hpp"
#include "cli/human.hpp"
#include "cli/own_program.hpp"
#include "cli/replay/cast.hpp"
#include "cli/replay/player.hpp"
#include "cli/trace_text.hpp"
#include "observe/trace_reader.hpp"

#include <iostream>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cli {

namespace {

struct ReplayOptions {
  std::string file;
  std::string device;
  std::string record;
  BackendChoice backend;
  bool paced = false;
  bool here = false;
  bool quiet = false;
};

int complain(const Error &error) {
  spdlog::error("{}", error.where);
  return exit_usage;
}

bool same(const trace::Record &record, const Reply &reply) {
  return record.error == reply.error &&
         (record.error != 0 || trace::answers_with_descriptor(record) ||
          record.result == reply.result);
}

/// Tells of the calls that were answered otherwise than when they were recorded.
/// @return How many those are.
std::size_t report(const observe::Recording &recording, const std::vector<Reply> &replies) {
  constexpr std::size_t most_shown = 10;
  std::size_t different = 0;
  for (std::size_t i = 0; i < replies.size(); ++i) {
    const trace::Record &record = recording.records[i];
    if (same(record, replies[i]) || ++different > most_shown)
      continue;
    const std::string now =
        replies[i].error != 0 ? errno_name(replies[i].error) : std::to_string(replies[i].result);
    fmt::print("call {}, {} {}: recorded {}, now {}\n", record.sequence, call_name(record),
               printable(argument_text(record)), result_text(record), now);
  }
  fmt::print("{} calls made again; {} answered otherwise than recorded on {}\n", replies.size(),
             different, printable(recording.backend));
  return different;
}

int play(const observe::Recording &recording, Cast cast, const ReplayOptions &options) {
  auto player = Player::create(recording, std::move(cast), "/dev/vfio", options.paced);
  if (!player)
    return complain(player.error());
  const auto replies = (*player)->play();
  if (!replies)
    return complain(replies.error());
  if (options.quiet)
    return exit_ok;
  return report(recording, *replies) == 0 ? exit_ok : exit_failure;
}

int replay(const ReplayOptions &options) {
  const auto recording = observe::read_recording(options.file);
  if (!recording)
    return complain(recording.error());
  if (const auto complaint = recording->complaint(options.file); !complaint.empty())
    return complain({.code = ENODATA, .where = complaint});
  auto cast = find_cast(*recording, options.device);
  if (!cast)
    return complain(cast.error());
  if (options.here)
    return play(*recording, std::move(*cast), options);

  const BackendChoice backend{.kind = options.backend.kind, .given = true};
  if (backend.asks_too_much())
    return exit_usage;
  std::vector<std::string> arguments{"run", "--backend", std::string(backend_name(backend.kind))};
  if (!options.record.empty())
    arguments.insert(arguments.end(), {"--record", options.record});
  arguments.insert(arguments.end(), {"--", own_program(), "replay", "--here", options.file});
  if (!options.device.empty())
    arguments.insert(arguments.end(), {"--device", options.device});
  if (options.paced)
    arguments.emplace_back("--paced");
  if (options.quiet)
    arguments.emplace_back("--quiet");
  return complain(become_own_program(arguments));
}

} // namespace

void add_replay(CommandLine &line) {
  auto options = std::make_shared<ReplayOptions>();
  auto *command = line.app.add_subcommand(
      "replay", "Make the calls of a recording again, without the program that made them");
  command->add_option("FILE", options->file, "The recording")->required();
  auto *backend = add_backend_option(*command, options->backend);
  command->add_option("--device", options->device,
                      "The device to take instead of the recorded one (0000:03:00.0)");
  auto *record = command->add_option("--record", options->record, "Record the replay to this file");
  command->add_flag("--paced", options->paced, "No faster than it was recorded");
  command->add_flag("--quiet", options->quiet,
                    "Do not tell what is answered otherwise than recorded; status 0 all the same");
  command
      ->add_flag("--here", options->here,
                 "Call whatever is at /dev/vfio now, without a daemon of its own")
      ->excludes(backend)
      ->excludes(record);
  command->callback([&line, options] { line.chosen = [options] { return replay(*options); }; });
}

} // namespace vfio_shim::cli
