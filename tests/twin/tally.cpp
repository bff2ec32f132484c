// SPDX-License-Identifier: MIT
#include "tally.h"

#include <iomanip>
#include <ostream>

namespace twin {
namespace {

std::int64_t microseconds(Tally::Duration sum, std::uint64_t count) {
  return std::chrono::duration_cast<std::chrono::microseconds>(sum).count() /
         static_cast<std::int64_t>(count);
}

} // namespace

void Tally::count(const Operation &operation, const Outcome &outcome, Duration right,
                  Duration shim) {
  Counts &counts = by_name_[name_of(operation)];
  ++operations_;
  ++counts.all;
  counts.right += right;
  counts.shim += shim;
  if (outcome.answer.ok())
    ++counts.succeeded;
  else
    ++counts.errors[outcome.answer.error()];
}

std::ostream &operator<<(std::ostream &out, const Tally &tally) {
  out << tally.operations_ << " operations in " << tally.scripts_
      << " scripts; each on both, in microseconds:\n";
  for (const auto &[name, counts] : tally.by_name_) {
    out << "  " << std::left << std::setw(24) << name << std::right << std::setw(8) << counts.all
        << std::setw(7) << microseconds(counts.right, counts.all) << std::setw(7)
        << microseconds(counts.shim, counts.all) << " us" << std::setw(8) << counts.succeeded
        << " succeed";
    for (const auto &[error, times] : counts.errors)
      out << ", " << times << " " << legacy::errno_name(error);
    out << "\n";
  }
  return out;
}

} // namespace twin
