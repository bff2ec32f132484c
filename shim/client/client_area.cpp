// SPDX-License-Identifier: MIT
#include "client/client_area.hpp"

#include "vfio_shim/process_memory.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <span>

#include <sys/random.h>

namespace vfio_shim::client {

namespace {

bool has_ended(Pid process) {
  return ::kill(process.value, 0) != 0 && errno == ESRCH;
}

} // namespace

Result<void> ClientArea::mark(Tid thread) {
  if (::getrandom(mark_.data(), mark_.size(), 0) != static_cast<ssize_t>(mark_.size()))
    return fail_errno("getrandom");
  return write_memory(thread, place_of_mark(), mark_);
}

bool ClientArea::is_in(Tid thread) const {
  Mark found{};
  return read_memory(thread, place_of_mark(), found) && found == mark_;
}

Result<void> ClientArea::write(Tid thread, const arch::Mending &mending) const {
  return write_memory(thread, place_of_mending(), std::as_bytes(std::span(&mending, 1)));
}

std::optional<ClientArea> ClientAreas::take(Tid thread, Pid process) {
  while (const auto area = take_any(process)) {
    if (area->is_in(thread)) // If not, its address space has ended, or the client has taken it.
      return area;
    book_.area_gone(area->record);
  }
  return std::nullopt;
}

void ClientAreas::give_back(Pid process, const ClientArea &area) {
  constexpr std::size_t most = 4096;
  const std::scoped_lock lock(mutex_);
  unused_.push_front({.process = process, .area = area});
  if (unused_.size() <= most)
    return;
  std::erase_if(unused_, [this](const Entry &entry) {
    if (!has_ended(entry.process))
      return false;
    book_.area_gone(entry.area.record);
    return true;
  });
  if (unused_.size() > most) {
    book_.area_gone(unused_.back().area.record);
    unused_.pop_back();
  }
}

std::optional<ClientArea> ClientAreas::take_any(Pid process) {
  const std::scoped_lock lock(mutex_);
  const auto found = std::ranges::find(unused_, process, &Entry::process);
  if (found == unused_.end())
    return std::nullopt;
  const ClientArea area = found->area;
  unused_.erase(found);
  return area;
}

} // namespace vfio_shim::client
