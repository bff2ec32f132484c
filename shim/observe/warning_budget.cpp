// SPDX-License-Identifier: MIT
#include "observe/warning_budget.hpp"

#include <algorithm>
#include <utility>

namespace vfio_shim::observe {

std::optional<std::uint64_t> WarningBudget::spend(Clock::time_point now) {
  const std::scoped_lock lock(mutex_);
  const auto back = std::min<Clock::rep>((now - counted_from_) / pace, most - left_);
  left_ += static_cast<std::uint32_t>(back);
  counted_from_ = left_ == most ? now : counted_from_ + back * pace;
  if (left_ == 0) {
    ++withheld_;
    return std::nullopt;
  }
  --left_;
  return std::exchange(withheld_, 0);
}

} // namespace vfio_shim::observe
