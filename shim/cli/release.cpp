// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cuse/kernel_nodes.hpp"
#include "observe/shared_ledger.hpp"

#include <chrono>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

constexpr const char *taken_prefix = "vfio";
/// For a daemon that ends, and a service manager that lets go of what it kept.
constexpr std::chrono::seconds patience{2};

int complain(const std::string &what) {
  spdlog::error("{}", what);
  return exit_failure;
}

const char *who_has_it() {
  return daemon::has_daemon(taken_prefix)
             ? "a daemon serves /dev/vfio: end it, and the kernel's nodes come back"
             : "the service manager keeps /dev/vfio for a daemon that comes back: stop the "
               "service, and the kernel's nodes come back";
}

int release() {
  if (::geteuid() != 0)
    return complain("must be root: it moves device nodes");
  const cuse::KernelNodes nodes;
  std::vector<std::string> names;
  if (nodes.are_aside()) {
    const auto lock = daemon::PrefixLock::acquire(taken_prefix, patience);
    if (!lock)
      return complain(lock.error().code == EBUSY ? who_has_it() : lock.error().describe());
    observe::SharedLedger::remove_left_behind(taken_prefix);
    auto put_back = nodes.put_back();
    if (!put_back)
      return complain(put_back.error().describe());
    names = std::move(*put_back);
  }
  if (names.empty())
    std::cout << "nothing is taken over\n";
  else
    std::cout << fmt::format("the kernel's again: /dev/vfio/{{{}}}\n", fmt::join(names, ","));
  return exit_ok;
}

} // namespace

void add_release(CommandLine &line) {
  auto *command = line.app.add_subcommand(
      "release", "Put the kernel's nodes back that a killed `serve --take-over` has left aside");
  command->callback([&line] { line.chosen = release; });
}

} // namespace vfio_shim::cli
