// SPDX-License-Identifier: MIT
#include "cli/replay/turns.hpp"

#include <algorithm>
#include <numeric>

namespace vfio_shim::cli {

Turns::Turns(std::span<const observe::trace::Record> records)
    : rank_(records.size()), ended_before_(records.size()), ended_(records.size()) {
  std::vector<std::size_t> by_end(records.size());
  std::iota(by_end.begin(), by_end.end(), 0);
  const auto end_of = [records](std::size_t index) {
    return records[index].at + records[index].total;
  };
  std::ranges::stable_sort(by_end, {}, end_of);
  for (std::size_t rank = 0; rank < by_end.size(); ++rank)
    rank_[by_end[rank]] = rank;
  for (std::size_t index = 0; index < records.size(); ++index) {
    const auto first_later = std::ranges::upper_bound(by_end, records[index].at, {}, end_of);
    // Nobody waits for a later call, whatever a damaged recording says of its times.
    const auto earlier = static_cast<std::size_t>(first_later - by_end.begin());
    ended_before_[index] = std::min(earlier, index);
  }
}

void Turns::begin(std::size_t index) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return begun_ == index && ended_in_order_ >= ended_before_[index]; });
  ++begun_;
  changed_.notify_all();
}

void Turns::end(std::size_t index) {
  const std::scoped_lock lock(mutex_);
  ended_[rank_[index]] = true;
  while (ended_in_order_ < ended_.size() && ended_[ended_in_order_])
    ++ended_in_order_;
  changed_.notify_all();
}

} // namespace vfio_shim::cli
