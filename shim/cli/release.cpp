// SPDX-License-Identifier: MIT
#include "cli/command_line.hpp"
#include "cuse/kernel_nodes.hpp"
#include "observe/shared_ledger.hpp"

#include <iostream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

constexpr const char *taken_prefix = "vfio";

int complain(const std::string &what) {
  spdlog::error("{}", what);
  return exit_failure;
}

int release() {
  if (::geteuid() != 0)
    return complain("must be root: it moves device nodes");
  const auto lock = daemon::PrefixLock::acquire(taken_prefix);
  if (!lock)
    return complain(lock.error().code == EBUSY
                        ? "a daemon serves /dev/vfio: end it, and the kernel's nodes come back"
                        : lock.error().describe());
  observe::SharedLedger::remove_left_behind(taken_prefix);
  auto names = cuse::KernelNodes().put_back();
  if (!names)
    return complain(names.error().describe());
  if (names->empty())
    std::cout << "nothing is taken over\n";
  else
    std::cout << fmt::format("the kernel's again: /dev/vfio/{{{}}}\n", fmt::join(*names, ","));
  return exit_ok;
}

} // namespace

void add_release(CommandLine &line) {
  auto *command = line.app.add_subcommand(
      "release", "Put the kernel's nodes back that a killed `serve --take-over` has left aside");
  command->callback([&line] { line.chosen = release; });
}

} // namespace vfio_shim::cli
