// SPDX-License-Identifier: MIT
#include "observe/usage_keeper.hpp"

#include "observe/process_identity.hpp"

#include "vfio_shim/fd.hpp"

#include <chrono>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

namespace vfio_shim::observe {

namespace {

using namespace std::chrono_literals;

/// What a crash can cost.
constexpr auto pause = 5s;

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// The executable's path as the process sees it; if it cannot be read, the command's name.
std::string name_of(Pid process) {
  std::error_code error;
  const auto path =
      std::filesystem::read_symlink(fmt::format("/proc/{}/exe", process.value), error);
  return error ? identify(process).command : path.string();
}

} // namespace

void LiveUse::add(const trace::Record &record) {
  const auto used = features_of(record);
  if (used.none())
    return;
  const std::int64_t time = now();
  for (std::size_t index = 0; index < features; ++index) {
    if (!used[index])
      continue;
    Counts &counts = counts_[index];
    counts.calls.fetch_add(1, std::memory_order_relaxed);
    if (record.error != 0)
      counts.failed.fetch_add(1, std::memory_order_relaxed);
    std::int64_t none = 0;
    counts.first.compare_exchange_strong(none, time, std::memory_order_relaxed);
    counts.last.store(time, std::memory_order_relaxed);
  }
}

ProgramUse LiveUse::take() {
  ProgramUse use;
  for (std::size_t index = 0; index < features; ++index) {
    Counts &counts = counts_[index];
    use.uses[index] = {.calls = counts.calls.exchange(0, std::memory_order_relaxed),
                       .failed = counts.failed.exchange(0, std::memory_order_relaxed),
                       .first = counts.first.exchange(0, std::memory_order_relaxed),
                       .last = counts.last.load(std::memory_order_relaxed)};
    // A call that is being added just now may have left its count without its time.
    if (use.uses[index].first == 0)
      use.uses[index].first = use.uses[index].last;
  }
  return use;
}

UsageKeeper::UsageKeeper(std::filesystem::path state)
    : state_(std::move(state)), writer_([this](const std::stop_token &stop) { keep(stop); }) {}

UsageKeeper::~UsageKeeper() {
  finish();
}

void UsageKeeper::finish() {
  writer_.request_stop();
  if (writer_.joinable())
    writer_.join();
}

std::shared_ptr<LiveUse> UsageKeeper::program_of(Pid process) {
  std::string name = name_of(process);
  const std::scoped_lock lock(mutex_);
  if (!programs_.contains(name) && programs_.size() >= UsageBook::most_programs)
    name = UsageBook::others;
  auto &program = programs_[name];
  if (!program)
    program = std::make_shared<LiveUse>();
  return program;
}

void UsageKeeper::keep(const std::stop_token &stop) {
  std::mutex nobodys;
  while (!stop.stop_requested()) {
    std::unique_lock lock(nobodys);
    stopping_.wait_for(lock, stop, pause, [] { return false; });
    if (!stop.stop_requested())
      write_down();
  }
  write_down();
}

void UsageKeeper::write_down() {
  collect();
  if (unwritten_.empty())
    return;
  const auto merged = merge_into_file();
  if (merged)
    unwritten_ = {};
  else
    complain(merged.error());
}

void UsageKeeper::collect() {
  const std::scoped_lock lock(mutex_);
  for (auto entry = programs_.begin(); entry != programs_.end();) {
    const bool open = entry->second.use_count() > 1;
    const ProgramUse use = entry->second->take();
    if (use.first() != 0)
      unwritten_.add(entry->first, use);
    entry = open ? std::next(entry) : programs_.erase(entry);
  }
}

Result<void> UsageKeeper::merge_into_file() {
  std::error_code error;
  std::filesystem::create_directories(state_, error);
  if (error)
    return fail(error.value(), state_);
  const auto lock_file = state_ / "usage.lock";
  const Fd lock{::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0)
    return fail_errno(lock_file);
  const auto file = usage_file(state_);
  auto book = UsageBook::load(file);
  if (!book && book.error().code == EBADMSG) {
    const std::string aside = file.string() + ".damaged";
    spdlog::error("{}: kept as {}, a new one begins", book.error().where, aside);
    std::filesystem::rename(file, aside, error);
  } else if (!book && book.error().code != ENOENT) {
    return pass_on(book);
  }
  UsageBook merged = book ? std::move(*book) : UsageBook{};
  merged.add(unwritten_);
  return merged.save(file);
}

void UsageKeeper::complain(const Error &error) {
  if (!complained_)
    spdlog::error("cannot write down who uses what (`vfio-shim usage`): {}", error.describe());
  complained_ = true;
}

} // namespace vfio_shim::observe
