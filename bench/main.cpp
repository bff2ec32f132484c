// SPDX-License-Identifier: MIT
// vfio-bench: the cost of legacy VFIO calls, side by side for every provider.

#include "client/memory.h"
#include "client/provider.h"
#include "client/topology.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include <fmt/format.h>
#include <unistd.h>

#include "crowd.h"
#include "floors.h"
#include "report.h"
#include "workloads.h"

namespace {

using namespace legacy;

struct Options {
  ProviderSelection selection;
  std::string device;
  std::string observed;
  std::string json_file;
  std::vector<unsigned> crowds;
  unsigned stress = 0;
  unsigned rounds = 0;
  bool quick = false;
  bool check = false;
};

Options parse(int argc, char **argv) {
  Options options;
  options.selection = ProviderSelection::take_from(argc, argv);
  CLI::App app{"Measures the legacy VFIO API over every provider there is, in turns, and compares "
               "them.\n  --providers=A,B and --shim-prefix=DIR choose them, as for legacy_tests."};
  app.add_option("--device", options.device,
                 "PCI address of the device to attach (default: an edu alone in its group)");
  app.add_option(
      "--observed", options.observed,
      "directory below /dev of another daemon of the shim, one that records and is being "
      "watched: measured beside, to show what that costs");
  app.add_option("--stress", options.stress,
                 "instead: fill containers with so many mappings of 4 KiB (type1's limit is 65535) "
                 "and unmap them in random order");
  app.add_option(
         "--clients", options.crowds,
         "instead: so many clients at once (\"1,8,64\"), on all edus that are alone in their "
         "groups")
      ->delimiter(',');
  app.add_option("--rounds", options.rounds, "turns of each provider (default 7, quick 3)");
  app.add_option("--json", options.json_file, "also write the results to this file");
  app.add_flag("--quick", options.quick, "fewer turns, smaller sizes");
  app.add_flag(
      "--check", options.check,
      "exit with 1 when the shim is slower than the project's floors allow (with --observed: "
      "when observing costs more), with 3 when the machine was too busy to tell");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &wrong) {
    std::exit(app.exit(wrong));
  }
  return options;
}

void show_progress(const std::string &line) {
  if (::isatty(STDERR_FILENO))
    fmt::print(stderr, "\r\033[K{}", line);
}

bench::Plan make_plan(const Options &options) {
  bench::Plan plan;
  plan.providers = select_providers(options.selection);
  if (!options.observed.empty())
    plan.providers.push_back({bench::observed_shim, options.observed + "/vfio", options.observed,
                              "vfio-shim, recorded and watched"});
  plan.device = options.device.empty() ? topology::lone_edus(1)[0] : topology::at(options.device);
  plan.kinds = {MemoryKind::Anonymous, MemoryKind::AnonymousHuge, MemoryKind::MemfdShared,
                MemoryKind::HugetlbShared};
  plan.sizes = {page, huge_page, 64_MiB, 256_MiB};
  plan.live_mappings = {1, 1000, 10000, 65534};
  plan.progress = show_progress;
  if (options.quick) {
    plan.sizes = {page, huge_page, 64_MiB};
    plan.rounds = 3;
    plan.live_rounds = 1;
    if (!options.check)
      plan.live_mappings = {1, 1000};
  }
  if (!options.observed.empty())
    plan.rounds = 1500;
  if (options.rounds != 0)
    plan.rounds = plan.live_rounds = options.rounds;
  return plan;
}

void write_json(const std::string &path, const nlohmann::json &report) {
  std::ofstream out{path};
  out << report.dump(2) << "\n";
  if (!out.flush())
    throw std::runtime_error{"cannot write " + path};
}

/// Prints each floor and whether it is kept. Answers the exit status: 1 when one is missed, 3 when
/// the machine was too busy to say.
int check_floors(const std::vector<bench::Floor> &floors) {
  bool any_missed = false, any_unclear = false;
  for (const bench::Floor &floor : floors) {
    const char *verdict = !floor.clear ? "unclear" : floor.kept() ? "kept" : "MISSED";
    fmt::print("{:<7}  {}: {:.2f} (at most {:.2f})\n", verdict, floor.promise, floor.measured,
               floor.at_most);
    any_missed |= floor.clear && !floor.kept();
    any_unclear |= !floor.clear;
  }
  if (any_unclear)
    fmt::print("unclear: the samples are scattered; run it again on a quiet machine\n");
  return any_missed ? 1 : any_unclear ? 3 : 0;
}

/// The floors compare the shim with kernel-compat: both have to be there.
void require_what_floors_compare(const bench::Plan &plan) {
  for (const char *needed : {providers::kernel_compat, providers::shim}) {
    const bool there = std::any_of(plan.providers.begin(), plan.providers.end(),
                                   [&](const Provider &p) { return p.name == needed; });
    if (!there)
      throw std::runtime_error{fmt::format("--check needs provider {}", needed)};
  }
}

bench::Measurements measure(const Options &options, const bench::Plan &plan) {
  if (!options.crowds.empty())
    return bench::run_crowds(plan, topology::lone_edus(1), options.crowds);
  if (options.stress != 0)
    return bench::run_stress(plan, options.stress);
  return options.observed.empty() ? bench::run(plan)
                                  : bench::run_call_by_call(plan, topology::lone_edus(2)[1]);
}

int run(const Options &options) {
  const bench::Plan plan = make_plan(options);
  if (options.check && options.observed.empty())
    require_what_floors_compare(plan);
  const HugePageReserve huge_pages{plan.sizes.back() / huge_page};
  for (const Provider &provider : plan.providers)
    fmt::print("{}: {} ({})\n", provider.name, provider.container, provider.notes);
  const bench::Measurements measurements = measure(options, plan);
  const std::string unit = options.crowds.empty() ? "microseconds" : "of one second";
  show_progress("");
  fmt::print("\n{}\n", bench::as_table(measurements, plan.providers, unit));
  if (!options.json_file.empty())
    write_json(options.json_file, bench::as_json(measurements, plan.providers, unit));
  if (!options.check)
    return 0;
  return check_floors(options.observed.empty() ? bench::floors(plan, measurements)
                                               : bench::observing_floors(measurements));
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(parse(argc, argv));
  } catch (const std::exception &cause) {
    fmt::print(stderr, "vfio-bench: {}\n", cause.what());
    return 2;
  }
}
