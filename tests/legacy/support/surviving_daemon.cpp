// SPDX-License-Identifier: MIT
#include "surviving_daemon.h"

#include "client/answer.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include <unistd.h>

#include "patience.h"

namespace legacy {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;
using namespace std::chrono_literals;

/// How a command ended, as wait(2) says it, and what it has printed.
struct Outcome {
  int status = -1;
  std::string output;
};

/// Runs `vfio-shim COMMAND --prefix PREFIX`. The program lies beside this one.
Outcome run_shim(const std::string &command, const Provider &provider) {
  const fs::path shim = fs::read_symlink("/proc/self/exe").parent_path() / "vfio-shim";
  const std::string prefix = fs::relative(provider.groups, "/dev").string();
  const std::string line = "exec " + shim.string() + " " + command + " --prefix " + prefix;
  std::FILE *const pipe = ::popen(line.c_str(), "r");
  if (pipe == nullptr)
    throw_errno("popen " + line);
  Outcome outcome;
  std::array<char, 4096> part{};
  while (const std::size_t length = std::fread(part.data(), 1, part.size(), pipe))
    outcome.output.append(part.data(), length);
  outcome.status = ::pclose(pipe);
  return outcome;
}

/// The number of that name; 0 if there is none, or null.
int number_in(const json &object, const char *name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<int>() : 0;
}

/// Nothing while nobody can tell.
std::optional<DaemonReport> try_report_on(const Provider &provider) {
  const json all = json::parse(run_shim("status --json", provider).output, nullptr, false);
  if (!all.is_object() || all.at("daemons").empty())
    return std::nullopt;
  const json &daemon = all.at("daemons").front();
  return DaemonReport{.keeper = number_in(daemon, "keeper_pid"),
                      .worker = number_in(daemon, "worker_pid"),
                      .replaced = number_in(daemon, "replaced"),
                      .open_files = daemon.at("containers").size() +
                                    daemon.at("groups_without_container").size()};
}

/// Throws std::system_error if the process is not there.
void send(pid_t process, int signal, const char *what) {
  Answer::of(::kill(process, signal)).or_throw(what);
}

} // namespace

DaemonReport report_on(const Provider &provider) {
  const auto report = try_report_on(provider);
  if (!report)
    throw std::runtime_error{"no daemon serves " + provider.groups};
  return *report;
}

testing::AssertionResult has_nothing_open(const Provider &provider) {
  DaemonReport report;
  if (within(5s, [&] { return (report = report_on(provider)).open_files == 0; }))
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << report.open_files << " containers and groups are still open, says the daemon";
}

SurvivingDaemon::SurvivingDaemon(Provider provider)
    : provider_{std::move(provider)}, last_{report_on(provider_)} {
  if (last_.keeper <= 0 || last_.worker <= 0)
    throw std::runtime_error{"the daemon of " + provider_.groups + " names no keeper and worker"};
}

void SurvivingDaemon::kill_worker() const {
  send(worker(), SIGKILL, "kill the worker");
}

void SurvivingDaemon::ask_for_upgrade() const {
  send(keeper(), SIGHUP, "send the keeper SIGHUP");
}

std::string SurvivingDaemon::upgrade() const {
  const Outcome outcome = run_shim("upgrade", provider_);
  if (outcome.status != 0)
    throw std::runtime_error{"vfio-shim upgrade ended with status " +
                             std::to_string(outcome.status) + ": " + outcome.output};
  return outcome.output;
}

testing::AssertionResult SurvivingDaemon::serves_again(std::chrono::seconds patience) {
  const DaemonReport before = last_;
  const bool served = within(patience, [&] {
    const auto now = try_report_on(provider_);
    if (!now || now->worker <= 0 || now->worker == before.worker)
      return false;
    last_ = *now;
    return true;
  });
  if (!served)
    return testing::AssertionFailure()
           << "no other worker than " << before.worker << " serves in " << patience.count() << " s";
  if (last_.keeper != before.keeper)
    return testing::AssertionFailure()
           << "the keeper was " << before.keeper << " and is " << last_.keeper;
  if (last_.replaced <= before.replaced)
    return testing::AssertionFailure()
           << "the worker was replaced " << before.replaced << " times, says the daemon, and now "
           << last_.replaced << " times";
  return testing::AssertionSuccess();
}

testing::AssertionResult SurvivingDaemon::replace_worker() {
  kill_worker();
  return serves_again();
}

} // namespace legacy
