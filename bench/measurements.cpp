// SPDX-License-Identifier: MIT
#include "measurements.h"

#include <algorithm>
#include <cmath>

namespace bench {

double Samples::quantile(double fraction) const {
  if (all_.empty())
    return 0;
  std::vector<double> sorted = all_;
  const auto last = static_cast<double>(sorted.size() - 1);
  const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(std::lround(fraction * last));
  std::nth_element(sorted.begin(), nth, sorted.end());
  return *nth;
}

bool Samples::scattered() const {
  constexpr double far_apart = 4;
  return quantile(0.9) > far_apart * quantile(0.1);
}

double Measurements::Operation::median(const std::string &provider) const {
  const auto found = by_provider.find(provider);
  return found != by_provider.end() ? found->second.median() : 0;
}

bool Measurements::Operation::scattered(const std::string &provider) const {
  const auto found = by_provider.find(provider);
  return found != by_provider.end() && found->second.scattered();
}

double Measurements::Operation::ratio(const std::string &provider,
                                      const std::string &reference) const {
  const double base = median(reference);
  return base > 0 ? median(provider) / base : 0;
}

Samples &Measurements::of(const std::string &operation, const std::string &provider) {
  auto found = std::find_if(operations_.begin(), operations_.end(),
                            [&](const Operation &o) { return o.name == operation; });
  if (found == operations_.end())
    found = operations_.insert(operations_.end(), {operation, {}});
  return found->by_provider[provider];
}

const Measurements::Operation *Measurements::find(const std::string &operation) const {
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [&](const Operation &o) { return o.name == operation; });
  return found != operations_.end() ? &*found : nullptr;
}

} // namespace bench
