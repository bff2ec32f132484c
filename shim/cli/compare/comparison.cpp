// SPDX-License-Identifier: MIT
#include "cli/compare/comparison.hpp"

#include "cli/compare/alignment.hpp"
#include "cli/trace_text.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string_view>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

using Record = observe::trace::Record;

bool same_answer(const Record &one, const Record &other) {
  if (one.error != other.error)
    return false;
  if (!trace::answers_with_descriptor(one) && one.result != other.result)
    return false;
  const auto written = [](const Record &record) {
    return std::span(record.after).first(record.was_written);
  };
  return std::ranges::equal(written(one), written(other));
}

/// Texts of answers that differ; where the short form does not show it, the bytes do.
std::pair<std::string, std::string> answer_texts(const Record &one, const Record &other) {
  std::pair texts{result_text(one), result_text(other)};
  if (texts.first != texts.second)
    return texts;
  std::size_t at = 0;
  while (at + 1 < one.after.size() && one.after[at] == other.after[at])
    ++at;
  at &= ~std::size_t{3}; // The ABI's structs are made of words.
  const auto with_word = [at](const std::string &text, const Record &record) {
    std::uint32_t word = 0;
    std::memcpy(&word, record.after.data() + at, sizeof(word));
    return fmt::format("{} ({:#x} at byte {} of the answer)", text, word, at);
  };
  return {with_word(texts.first, one), with_word(texts.second, other)};
}

Divergence divergence_at(const Record &record, const std::string &backend) {
  return {.call = call_name(record),
          .file = file_text(record),
          .argument = argument_text(record),
          .memory = memory_text(record),
          .sequence = record.sequence,
          .backend = backend,
          .expected = {},
          .found = {}};
}

/// Compares one turn with the first.
class Comparer {
public:
  Comparer(const Turn &first, const Turn &other)
      : first_(first), other_(other), alignment_(align(first.recording, other.recording)) {}

  void add_to(Comparison &comparison) {
    for (const auto &[one, other] : alignment_.pairs) {
      asked_.insert(question_of(*one));
      if (same_answer(*one, *other))
        continue;
      Divergence divergence = divergence_at(*one, other_.name);
      std::tie(divergence.expected, divergence.found) = answer_texts(*one, *other);
      found_.push_back(std::move(divergence));
    }
    for (const Record *record : alignment_.only_one)
      only_in_one(*record, true);
    for (const Record *record : alignment_.only_other)
      only_in_one(*record, false);
    if (first_.exit_status != other_.exit_status)
      found_.push_back({.call = "the command's exit status",
                        .file = {},
                        .argument = {},
                        .memory = {},
                        .sequence = UINT64_MAX,
                        .backend = other_.name,
                        .expected = std::to_string(first_.exit_status),
                        .found = std::to_string(other_.exit_status)});
    std::ranges::stable_sort(found_, {}, &Divergence::sequence);
    std::ranges::move(found_, std::back_inserter(comparison.divergences));
    comparison.repeated.push_back(repeated_);
  }

private:
  void only_in_one(const Record &record, bool in_first) {
    if (asked_.contains(question_of(record)) && record.error == 0) {
      ++repeated_;
      return;
    }
    Divergence divergence = divergence_at(record, other_.name);
    divergence.expected = in_first ? result_text(record) : "not called";
    divergence.found = in_first ? "not called" : result_text(record);
    found_.push_back(std::move(divergence));
  }

  const Turn &first_;
  const Turn &other_;
  const Alignment alignment_;
  std::set<std::string> asked_; ///< What both ask.
  std::vector<Divergence> found_;
  std::uint64_t repeated_ = 0;
};

/// The smallest of the values that is not below @p part of them. @param values Ordered, not empty.
std::uint64_t percentile(const std::vector<std::uint64_t> &values, double part) {
  const auto rank = static_cast<std::size_t>(part * static_cast<double>(values.size()));
  return values[std::min(rank, values.size() - 1)];
}

std::map<std::string, Figures> figures_of(const observe::Recording &recording) {
  std::map<std::string, std::vector<std::uint64_t>> times;
  std::map<std::string, Figures> figures;
  for (const Record &record : recording.records) {
    if (record.kind != observe::trace::Kind::call)
      continue;
    Figures &of_call = figures[call_name(record)];
    ++of_call.count;
    of_call.errors += record.error != 0 ? 1 : 0;
    of_call.total += record.total;
    times[call_name(record)].push_back(record.total);
  }
  for (auto &[name, values] : times) {
    std::ranges::sort(values);
    figures[name].p50 = percentile(values, 0.50);
    figures[name].p99 = percentile(values, 0.99);
  }
  return figures;
}

double mean(const Figures &figures) {
  return static_cast<double>(figures.total) / static_cast<double>(figures.count);
}

std::vector<Operation> operations_of(const std::vector<Turn> &turns) {
  std::map<std::string, Operation> by_name;
  for (std::size_t turn = 0; turn < turns.size(); ++turn)
    for (const auto &[name, figures] : figures_of(turns[turn].recording)) {
      Operation &operation = by_name[name];
      operation.name = name;
      operation.figures.resize(turns.size());
      operation.figures[turn] = figures;
    }
  std::vector<Operation> operations;
  for (auto &[name, operation] : by_name) {
    const Figures &first = operation.figures.front();
    for (Figures &figures : operation.figures)
      if (first.total != 0 && figures.count != 0)
        figures.ratio = mean(figures) / mean(first);
    operations.push_back(std::move(operation));
  }
  std::ranges::stable_sort(operations, std::ranges::greater{}, [](const Operation &operation) {
    return operation.figures.front().total;
  });
  return operations;
}

} // namespace

Comparison compare(const std::vector<Turn> &turns) {
  Comparison comparison;
  for (const Turn &turn : turns)
    comparison.backends.push_back(turn.name);
  comparison.operations = operations_of(turns);
  comparison.repeated.push_back(0);
  for (std::size_t turn = 1; turn < turns.size(); ++turn)
    Comparer(turns.front(), turns[turn]).add_to(comparison);
  return comparison;
}

std::vector<DistinctDivergence> distinct_divergences(const Comparison &comparison) {
  std::vector<DistinctDivergence> distinct;
  std::map<std::vector<std::string_view>, std::size_t> places;
  for (const Divergence &divergence : comparison.divergences) {
    const auto [place, is_new] = places.try_emplace(
        {divergence.call, divergence.file, divergence.argument, divergence.memory,
         divergence.backend, divergence.expected, divergence.found},
        distinct.size());
    if (is_new)
      distinct.push_back({.first = &divergence, .times = 0});
    ++distinct[place->second].times;
  }
  return distinct;
}

} // namespace vfio_shim::cli
