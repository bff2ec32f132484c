// SPDX-License-Identifier: MIT
#include "keeper/worker_store.hpp"

#include <charconv>
#include <chrono>
#include <thread>

#include <fmt/format.h>
#include <poll.h>

#include "keeper/message.hpp"

namespace vfio_shim::keeper {

Result<FileStore::Number> WorkerStore::keep(const Fd &file) {
  const Number number = next_number_();
  VFIO_SHIM_TRY(keep_as(std::to_string(number), file));
  return number;
}

void WorkerStore::drop(Number number) {
  drop_name(std::to_string(number));
}

Fd WorkerStore::adopt(Number number) {
  return adopt_name(std::to_string(number));
}

Result<void> WorkerStore::keep_as(const std::string &name, const Fd &file) {
  return send(keeper_, fmt::format("{}=1\n{}={}", store_line, name_line, name), file.get());
}

void WorkerStore::drop_name(const std::string &name) {
  request(fmt::format("{}=1\n{}={}", remove_line, name_line, name));
}

void WorkerStore::drop_all() {
  request(fmt::format("{}=1", forget_line));
}

/// Waits for the keeper to have done it.
void WorkerStore::request(const std::string &text) {
  constexpr std::chrono::milliseconds pause{10};
  const std::scoped_lock lock(mutex_);
  for (auto sent = send(keeper_, text); !sent; sent = send(keeper_, text)) {
    if (sent.error().code != ENOMEM)
      return;                           // There is no keeper.
    std::this_thread::sleep_for(pause); // A file that stays open would be in its owner's way.
  }
  pollfd answer{.fd = keeper_.get(), .events = POLLIN, .revents = 0};
  while (::poll(&answer, 1, -1) < 0 && errno == EINTR) {
  }
  (void)receive(keeper_);
}

Fd WorkerStore::adopt_name(const std::string &name) {
  const std::scoped_lock lock(mutex_);
  const auto found = inherited_.extract(name);
  return found ? std::move(found.mapped()) : Fd{};
}

std::vector<std::string> WorkerStore::names_with(std::string_view beginning) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> names;
  for (const auto &[name, file] : inherited_)
    if (name.starts_with(beginning))
      names.push_back(name);
  return names;
}

void WorkerStore::drop_the_rest() {
  KeptFiles rest;
  {
    const std::scoped_lock lock(mutex_);
    rest.swap(inherited_);
  }
  for (auto &[name, file] : rest) {
    drop_name(name);
    file.reset();
  }
}

void WorkerStore::tell(std::string_view line, int file) {
  (void)send(keeper_, fmt::format("{}=1", line), file);
}

} // namespace vfio_shim::keeper
