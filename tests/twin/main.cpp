// SPDX-License-Identifier: MIT
// Random sequences of legacy ioctls, valid and hostile, on the kernel's type1 and on vfio-shim:
// with twin devices, in one machine, every answer and every byte must be the same.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <future>
#include <iostream>
#include <random>
#include <sstream>
#include <thread>

#include "daemon.h"
#include "known_differences.h"
#include "scripts.h"
#include "tally.h"
#include "twin.h"

namespace {

using namespace twin;

/// Kills the shim's worker in some of the operations.
class Killer {
public:
  /// @param one_in In one of so many; 0: never.
  Killer(legacy::Provider shim, unsigned one_in) : shim_{std::move(shim)}, one_in_{one_in} {}

  /// An operation begins. What is returned may kill, and ends with it.
  std::jthread watch() {
    if (one_in_ == 0 || random_() % one_in_ != 0)
      return {};
    return std::jthread{[this, delay = std::chrono::microseconds{random_() % 1500}] {
      std::this_thread::sleep_for(delay);
      ::kill(legacy::daemon_of(shim_), SIGKILL);
      ++kills_;
    }};
  }
  int kills() const { return kills_; }

private:
  const legacy::Provider shim_;
  const unsigned one_in_;
  std::minstd_rand random_;
  int kills_ = 0;
};

/// Type1, which is right, and the shim.
class Pair {
public:
  Pair(Twin &reference, Twin &shim, Tally &tally, Killer &killer)
      : reference_{reference}, shim_{shim}, tally_{tally}, killer_{killer} {
    start_anew();
  }
  Pair(const Pair &) = delete;
  Pair &operator=(const Pair &) = delete;
  ~Pair() { start_anew(); }

  /// What differs when both do it, or "".
  std::string carry_out(const Operation &operation) {
    // DMA takes edu its time; otherwise what is done first does not matter, as nothing is shared.
    const bool slow = std::holds_alternative<CopyByDma>(operation);
    auto shims = std::async(slow ? std::launch::async : std::launch::deferred,
                            [&] { return timed(shim_, operation); });
    const auto [right, rights_time] = timed(reference_, operation);
    const std::jthread killing = killer_.watch();
    const auto [answer, shims_time] = shims.get();
    if (right)
      tally_.count(operation, *right, rights_time, shims_time);
    if (right != answer && !(bits_moved_ && differ_by_stale_bits(right, answer)))
      return reference_.provider().name + " " + to_string(right) + "\n" + shim_.provider().name +
             " " + to_string(answer);
    bits_moved_ |= std::holds_alternative<DirtyBitmap>(operation) ||
                   std::holds_alternative<UnmapGettingDirty>(operation);
    if (slow)
      return compare_memory();
    return "";
  }

private:
  static std::pair<std::optional<Outcome>, Tally::Duration> timed(Twin &twin,
                                                                  const Operation &operation) {
    const auto begin = std::chrono::steady_clock::now();
    auto outcome = twin.carry_out(operation);
    return {std::move(outcome), std::chrono::steady_clock::now() - begin};
  }

  /// Whether type1 only says dirty of more than the shim: see Behaviour::StaleDirtyBits.
  bool differ_by_stale_bits(const std::optional<Outcome> &right,
                            const std::optional<Outcome> &answer) const {
    if (!legacy::differs(shim_.provider(), legacy::Behaviour::StaleDirtyBits) || !right || !answer)
      return false;
    Outcome without_bitmap = *right;
    without_bitmap.bitmap = answer->bitmap;
    const auto type1_says_so = [&](const Changes::value_type &change) {
      const auto found = right->bitmap.find(change.first);
      return found != right->bitmap.end() && (change.second & ~found->second) == std::byte{0};
    };
    return without_bitmap == *answer && std::ranges::all_of(answer->bitmap, type1_says_so);
  }

  void start_anew() {
    reference_.start_anew();
    shim_.start_anew();
  }

  std::string compare_memory() const {
    const auto page = reference_.memory().first_difference(shim_.memory());
    if (!page)
      return "";
    return "afterwards page " + std::to_string(*page) + " (" +
           std::string{MemoryPool::kind_of(*page)} + ") is not the same";
  }

  static std::string to_string(const std::optional<Outcome> &outcome) {
    std::ostringstream out;
    if (outcome)
      out << *outcome;
    else
      out << "has nothing to do it on";
    return out.str();
  }

  Twin &reference_;
  Twin &shim_;
  Tally &tally_;
  Killer &killer_;
  bool bits_moved_ = false; ///< A bitmap was asked for: from then on, type1's can have stale bits.
};

/// Where the twins part, or "".
std::string run(Twin &reference, Twin &shim, const Script &script, Tally &tally, Killer &killer) {
  Pair pair{reference, shim, tally, killer};
  int number = 0;
  for (const Operation &operation : script.operations) {
    ++number;
    const std::string difference = pair.carry_out(operation);
    if (difference.empty())
      continue;
    std::ostringstream message;
    message << number << ". " << operation << "\n" << difference;
    return message.str();
  }
  tally.count_script();
  return "";
}

legacy::Provider the_provider(const legacy::ProviderSelection &selection, const std::string &name) {
  return legacy::select_providers({name, selection.shim_prefix})[0];
}

/// What the shim is known not to have is not asked for. With --express the client's container is
/// the kernel's as soon as the IOMMU is set; before, and as soon as groups leave it, it is not.
/// Then both answer an iommufd's own ioctls, whose objects and descriptors have numbers of their
/// own.
Scope scope_of(const legacy::Provider &shim) {
  using legacy::Behaviour;
  const bool express = shim.name == legacy::providers::shim_express;
  return {.dirty_tracking = !legacy::differs(shim, Behaviour::DirtyTracking),
          .update_vaddr = !legacy::differs(shim, Behaviour::UpdateVaddr),
          .set_up = !express,
          .iommufds_own = !express};
}

} // namespace

int main(int argc, char **argv) {
  std::uint64_t goal = 10'000;
  int length = 200;
  std::string seed;
  unsigned kill_one_in = 0;
  std::string left = legacy::providers::type1;
  std::string right = legacy::providers::shim;
  const auto selection = legacy::ProviderSelection::take_from(argc, argv);
  CLI::App app{
      "Compares vfio-shim with the kernel's type1 by random sequences of ioctls. Needs four "
      "edu devices, each alone in its group, and a daemon beside the kernel's own nodes.\n"
      "To see one failure again: RC_PARAMS='reproduce=...', as printed."};
  app.add_option("--operations", goal, "How many operations to carry out in all")
      ->capture_default_str();
  app.add_option("--length", length, "How many operations a sequence has at most")
      ->capture_default_str();
  app.add_option("--seed", seed, "Where random numbers begin; without it, anywhere");
  app.add_option("--kill-one-in", kill_one_in,
                 "Kill the shim's worker in one of so many operations; 0: never")
      ->capture_default_str();
  app.add_option("--reference", left, "The provider that is right")->capture_default_str();
  app.add_option("--twin", right, "The provider that is to do the same")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const auto edus = legacy::topology::lone_edus(4);
  const auto references = the_provider(selection, left);
  const auto shims = the_provider(selection, right);
  const legacy::HugePageReserve huge_pages{2};
  Twin reference{references, {edus[0], edus[2]}};
  Twin shim{shims, {edus[1], edus[3]}};

  // More scripts than are needed: those beyond the goal are not run.
  std::string parameters = "max_size=" + std::to_string(length) +
                           " max_success=" + std::to_string(goal / length * 4 + 1);
  if (!seed.empty())
    parameters += " seed=" + seed;
  if (const char *more = std::getenv("RC_PARAMS"))
    parameters += std::string{" "} + more;
  ::setenv("RC_PARAMS", parameters.c_str(), 1);

  Tally tally;
  Killer killer{shims, kill_one_in};
  bool failed = false;
  const bool same = rc::check(left + " and " + right + " are the same to a client", [&] {
    const Script script = *scripts(scope_of(shims), length);
    if (tally.operations() >= goal && !failed)
      return;
    const std::string difference = run(reference, shim, script, tally, killer);
    if (!difference.empty() && !failed) // With a dying worker it may not be found again.
      std::cout << "first found:\n" << difference << std::endl; // The search below may be long.
    failed |= !difference.empty(); // What follows is the search for a shorter script.
    if (!difference.empty())
      RC_FAIL(difference);
  });
  std::cout << tally;
  if (kill_one_in != 0)
    std::cout << "the worker was killed " << killer.kills() << " times\n";
  if (same && tally.operations() < goal) {
    std::cout << "that is less than asked for\n";
    return 1;
  }
  return same ? 0 : 1;
}
