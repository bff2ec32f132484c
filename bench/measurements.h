// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <vector>

namespace bench {

/// Durations of one operation, in microseconds.
class Samples {
public:
  void add(double microseconds) { all_.push_back(microseconds); }
  std::size_t count() const { return all_.size(); }
  /// The value that `fraction` (0 to 1) of the samples do not exceed; 0 when there are none.
  double quantile(double fraction) const;
  double median() const { return quantile(0.5); }
  /// Whether the samples are so far apart that their median says little.
  bool scattered() const;

private:
  std::vector<double> all_;
};

/// All samples of a run: by operation, in the order in which the operations were first seen, and
/// within an operation by provider.
class Measurements {
public:
  struct Operation {
    std::string name;
    std::map<std::string, Samples> by_provider;

    /// The median of `provider` divided by the median of `reference`; 0 when either is missing.
    double ratio(const std::string &provider, const std::string &reference) const;
    /// The median of `provider`, 0 when it has no samples.
    double median(const std::string &provider) const;
    /// Whether the samples of `provider` are scattered; false when it has none.
    bool scattered(const std::string &provider) const;
  };

  /// The samples of `operation` by `provider`, to add to.
  Samples &of(const std::string &operation, const std::string &provider);
  /// The operation of that name; nullptr when nothing of it was measured.
  const Operation *find(const std::string &operation) const;
  const std::vector<Operation> &operations() const { return operations_; }

private:
  std::vector<Operation> operations_;
};

} // namespace bench
