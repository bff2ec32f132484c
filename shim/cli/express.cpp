// SPDX-License-Identifier: MIT
#include "client/express.hpp"

#include "cli/command_line.hpp"

#include <iostream>
#include <memory>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

int complain(const std::string &what) {
  spdlog::error("{}", what);
  return exit_failure;
}

int express_off(const std::string &prefix, int pid) {
  const auto ended = client::end_express(daemon::container_node(prefix), Pid{pid});
  if (!ended)
    return complain(
        ended.error().code == EAGAIN
            ? fmt::format("no thread of process {} waits for anything just now: try again", pid)
        : ended.error().code == ESRCH
            ? fmt::format("there is no process {}", pid)
            : fmt::format("process {}: {}", pid, ended.error().describe()));
  if (ended->empty())
    return complain(fmt::format("process {} has no express container of /dev/{}", pid, prefix));
  for (const ClientFd number : *ended)
    std::cout << fmt::format("process {}: descriptor {} is its container's file again\n", pid,
                             number.value);
  return exit_ok;
}

} // namespace

void add_express(CommandLine &line) {
  struct Options {
    std::string prefix = daemon::default_prefix();
    int pid = 0;
  };
  auto options = std::make_shared<Options>();
  auto *command = line.app.add_subcommand(
      "express", "Look after programs that map memory by themselves (see `serve --express`)");
  command->require_subcommand(1);
  auto *off = command->add_subcommand(
      "off", "Have a process call the daemon again; what it has mapped stays");
  off->add_option("PID", options->pid, "The process")->required();
  off->add_option("--prefix", options->prefix, "Directory of the nodes below /dev")
      ->capture_default_str();
  off->callback([&line, options] {
    line.chosen = [options] { return express_off(options->prefix, options->pid); };
  });
}

} // namespace vfio_shim::cli
