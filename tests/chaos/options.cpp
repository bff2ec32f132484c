// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "behaviours.hpp"
#include "confinement.hpp"
#include "disturbances.hpp"
#include "hostiles.hpp"
#include "life.hpp"

namespace chaos {

namespace {

constexpr const char *usage =
    "usage: chaos_tests [OPTION...]\n"
    "\n"
    "Lets clients of the legacy VFIO API do random things while they and the daemon are disturbed. "
    "Fails\n"
    "if an innocent client notices more than it may, or if anything is left behind. As root, in "
    "the test\n"
    "machine, with edu devices bound to vfio-pci.\n"
    "\n"
    "  --provider NAME    type1, kernel-compat or shim (default shim)\n"
    "  --seconds N        how long (default 60)\n"
    "  --seed N           where chance begins (default 1)\n"
    "  --clients N        how many at a time (default 12); no more than there are groups\n"
    "  --round N          only this round; with the same --seed, --clients, --only and --without "
    "it is the same\n"
    "  --first N          begin with this round\n"
    "  --rounds N         end after so many rounds\n"
    "  --failures N       go on until so many rounds have failed (default 1)\n"
    "  --only A,B         only these kinds of things (see below)\n"
    "  --without A,B      all but these\n"
    "  --daemon PID       the daemon (default: the process that is `vfio-shim serve`)\n"
    "  --memory-tolerance MIB   how much the daemon may grow (default 12)\n"
    "  --patience N       what does not end in so many seconds hangs (default 90)\n"
    "  --verbose          say what each client is\n";

void print(const char *heading, const std::vector<std::string_view> &names) {
  std::printf("\n%s:", heading);
  for (const std::string_view name : names)
    std::printf(" %.*s", static_cast<int>(name.size()), name.data());
  std::printf("\n");
}

void print_help() {
  std::fputs(usage, stdout);
  print("what clients do", behaviour_names());
  print("how they are confined", confinement_names());
  print("how they end", end_names());
  print("what hostile clients do", hostile_names());
  print("disturbances", disturbance_names());
}

bool exists(const std::string &name) {
  for (const auto &names :
       {behaviour_names(), confinement_names(), end_names(), hostile_names(), disturbance_names()})
    if (std::ranges::find(names, name) != names.end())
      return true;
  return false;
}

std::vector<std::string> split(const std::string &list) {
  std::vector<std::string> names;
  std::istringstream in{list};
  for (std::string name; std::getline(in, name, ',');)
    names.push_back(name);
  return names;
}

[[noreturn]] void refuse(const std::string &why) {
  std::fprintf(stderr, "chaos_tests: %s (see --help)\n", why.c_str());
  std::exit(2);
}

std::uint64_t number(const std::string &option, const std::string &value) {
  try {
    std::size_t used = 0;
    const std::uint64_t parsed = std::stoull(value, &used);
    if (used == value.size())
      return parsed;
  } catch (const std::logic_error &) {
  }
  refuse(option + " takes a number, not " + value);
}

} // namespace

Selection::Selection(const std::string &only, const std::string &without)
    : only_(split(only)), without_(split(without)) {
  for (const auto &list : {only_, without_})
    for (const std::string &name : list)
      if (!exists(name))
        refuse("nothing is called " + name);
}

bool Selection::has(std::string_view name) const {
  return (only_.empty() || std::ranges::find(only_, name) != only_.end()) &&
         std::ranges::find(without_, name) == without_.end();
}

Options Options::parse(int argc, char **argv) {
  Options options;
  std::string provider = legacy::providers::shim, only, without;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--help") {
      print_help();
      std::exit(0);
    }
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (i + 1 == argc)
      refuse(name + " needs a value, or is none of the options");
    const std::string value = argv[++i];
    if (name == "--provider")
      provider = value;
    else if (name == "--only")
      only = value;
    else if (name == "--without")
      without = value;
    else if (name == "--seconds")
      options.seconds = number(name, value);
    else if (name == "--seed")
      options.seed = number(name, value);
    else if (name == "--clients")
      options.clients = number(name, value);
    else if (name == "--first")
      options.first_round = number(name, value);
    else if (name == "--rounds")
      options.rounds = number(name, value);
    else if (name == "--failures")
      options.failures = number(name, value);
    else if (name == "--patience")
      options.patience_seconds = number(name, value);
    else if (name == "--memory-tolerance")
      options.memory_tolerance_mib = number(name, value);
    else if (name == "--daemon")
      options.daemon = static_cast<pid_t>(number(name, value));
    else if (name == "--round") {
      options.first_round = number(name, value);
      options.rounds = 1;
    } else
      refuse("there is no " + name);
  }
  options.selection = Selection{only, without};
  options.provider = legacy::select_providers({provider, ""})[0];
  return options;
}

} // namespace chaos
