// SPDX-License-Identifier: MIT
#include "report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include <fmt/format.h>
#include <sys/utsname.h>

#include "workloads.h"

namespace bench {
namespace {

using legacy::Provider;

/// One column of ratios: how `provider` compares with `reference`.
struct Comparison {
  std::string provider;
  std::string reference;

  std::string title() const { return provider + "/" + reference; }
};

std::vector<Comparison> comparisons(const std::vector<Provider> &providers) {
  std::vector<Comparison> all;
  const auto has = [&](const std::string &name) {
    return std::any_of(providers.begin(), providers.end(),
                       [&](const Provider &p) { return p.name == name; });
  };
  for (const char *reference : {legacy::providers::type1, legacy::providers::kernel_compat})
    for (const Provider &provider : providers) {
      const bool backwards = provider.name == legacy::providers::type1;
      if (has(reference) && provider.name != reference && !backwards &&
          provider.name != observed_shim)
        all.push_back({provider.name, reference});
    }
  if (has(observed_shim) && has(legacy::providers::shim))
    all.push_back({observed_shim, legacy::providers::shim});
  return all;
}

std::string number(double value, int decimals) {
  return value > 0 ? fmt::format("{:.{}f}", value, decimals) : "-";
}

/// A median, with a mark when it says little.
std::string median(const Measurements::Operation &operation, const std::string &provider) {
  const double value = operation.median(provider);
  return (operation.scattered(provider) ? "~" : "") + number(value, value < 10 ? 2 : 1);
}

} // namespace

std::string as_table(const Measurements &measurements, const std::vector<Provider> &providers,
                     const std::string &unit) {
  const std::string title = "median, " + unit;
  const std::vector<Comparison> ratios = comparisons(providers);
  std::size_t name_width = title.size();
  for (const auto &operation : measurements.operations())
    name_width = std::max(name_width, operation.name.size());

  std::string table = fmt::format("{:<{}}", title, name_width);
  for (const Provider &provider : providers)
    table += fmt::format("  {:>13}", provider.name);
  for (const Comparison &ratio : ratios)
    table += fmt::format("  {:>{}}", ratio.title(), ratio.title().size());
  table += "\n";
  for (const auto &operation : measurements.operations()) {
    table += fmt::format("{:<{}}", operation.name, name_width);
    for (const Provider &provider : providers)
      table += fmt::format("  {:>13}", median(operation, provider.name));
    for (const Comparison &ratio : ratios)
      table += fmt::format("  {:>{}}", number(operation.ratio(ratio.provider, ratio.reference), 2),
                           ratio.title().size());
    table += "\n";
  }
  return table;
}

nlohmann::json as_json(const Measurements &measurements, const std::vector<Provider> &providers,
                       const std::string &unit) {
  utsname system{};
  ::uname(&system);
  nlohmann::json report{{"kernel", system.release}, {"unit", unit}};
  for (const Provider &provider : providers)
    report["providers"].push_back({{"name", provider.name}, {"container", provider.container}});
  for (const auto &operation : measurements.operations()) {
    nlohmann::json entry{{"name", operation.name}};
    for (const auto &[provider, samples] : operation.by_provider)
      entry["by_provider"][provider] = {{"median", samples.median()},
                                        {"p10", samples.quantile(0.1)},
                                        {"p90", samples.quantile(0.9)},
                                        {"samples", samples.count()}};
    for (const Comparison &ratio : comparisons(providers))
      entry["ratios"][ratio.title()] = operation.ratio(ratio.provider, ratio.reference);
    report["operations"].push_back(entry);
  }
  return report;
}

} // namespace bench
