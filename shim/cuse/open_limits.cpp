// SPDX-License-Identifier: MIT
#include "cuse/open_limits.hpp"

#include <fmt/format.h>

namespace vfio_shim::cuse {

namespace {

constexpr uid_t root = 0;
constexpr std::uint32_t roots_share = 8; ///< One in so many places is kept for root.

} // namespace

OpenLimits::OpenLimits(ContainerLimits limits)
    : limits_(limits), counts_(std::make_shared<Counts>()) {}

Result<OpenLimits::Place> OpenLimits::take(uid_t user) {
  const std::scoped_lock lock(counts_->mutex);
  const auto known = counts_->of_user.find(user);
  const std::uint32_t has = known == counts_->of_user.end() ? 0 : known->second;
  if (user != root && has >= limits_.per_user)
    return fail_for_operator(ENFILE, fmt::format("user {} has {} containers already, which is the "
                                                 "limit (serve --containers-per-user)",
                                                 user, has));
  const std::uint32_t open_to_user =
      user == root ? limits_.total : limits_.total - limits_.total / roots_share;
  if (counts_->total >= open_to_user)
    return fail_for_operator(ENFILE,
                             fmt::format("{} containers are open, and no more are given to user {}",
                                         counts_->total, user));
  counts_->of_user[user] = has + 1;
  ++counts_->total;
  return Place(counts_, user);
}

OpenLimits::Place::~Place() {
  if (!counts_)
    return;
  const std::scoped_lock lock(counts_->mutex);
  --counts_->total;
  const auto known = counts_->of_user.find(user_);
  if (--known->second == 0)
    counts_->of_user.erase(known);
}

} // namespace vfio_shim::cuse
