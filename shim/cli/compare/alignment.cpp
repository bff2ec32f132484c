// SPDX-License-Identifier: MIT
#include "cli/compare/alignment.hpp"

#include "cli/trace_text.hpp"
#include "rules/match.hpp"

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {

using Record = Alignment::Record;

/// The calls on one open file, its open() and close() among them.
struct Stream {
  std::vector<const Record *> calls;
  std::vector<int> questions; ///< A number for each call; the same for the same question.
};

/// Gives the same text the same number.
class Numbers {
public:
  int of(const std::string &text) {
    return numbers_.emplace(text, static_cast<int>(numbers_.size())).first->second;
  }

private:
  std::unordered_map<std::string, int> numbers_;
};

/// What a file is: "container" or "group 5", and which opening of it this is.
using Place = std::pair<std::string, std::size_t>;

std::map<Place, Stream> streams_of(const observe::Recording &recording, Numbers &numbers) {
  std::map<std::uint32_t, Stream> by_file;
  for (const Record &record : recording.records) {
    Stream &stream = by_file[record.file];
    stream.calls.push_back(&record);
    stream.questions.push_back(numbers.of(question_of(record)));
  }
  std::map<std::string, std::size_t> openings;
  std::map<Place, Stream> streams;
  for (auto &[file, stream] :
       by_file) { // Files are numbered in the order in which they are opened.
    const Record &first = *stream.calls.front();
    const std::string what = first.of_group != 0 ? file_text(first) : "container";
    streams.emplace(Place{what, openings[what]++}, std::move(stream));
  }
  return streams;
}

/// The lengths of the longest common subsequences of all ends of two sequences.
class CommonEnds {
public:
  CommonEnds(std::span<const int> one, std::span<const int> other)
      : width_(other.size() + 1), lengths_((one.size() + 1) * width_) {
    for (std::size_t i = one.size(); i-- > 0;)
      for (std::size_t j = other.size(); j-- > 0;)
        lengths_[i * width_ + j] = one[i] == other[j] ? lengths_[(i + 1) * width_ + j + 1] + 1
                                                      : std::max(at(i + 1, j), at(i, j + 1));
  }
  std::uint32_t at(std::size_t i, std::size_t j) const { return lengths_[i * width_ + j]; }

private:
  std::size_t width_;
  std::vector<std::uint32_t> lengths_;
};

/// Walks two streams side by side, from where they begin to differ.
class Walk {
public:
  Walk(const Stream &one, const Stream &other, Alignment &result)
      : one_(one), other_(other), result_(result) {}

  void align() {
    std::size_t begin = 0;
    std::size_t one_end = one_.calls.size();
    std::size_t other_end = other_.calls.size();
    while (begin < std::min(one_end, other_end) && same(begin, begin))
      ++begin;
    while (std::min(one_end, other_end) > begin && same(one_end - 1, other_end - 1)) {
      --one_end;
      --other_end;
    }
    for (std::size_t i = 0; i < begin; ++i)
      pair(i, i);
    constexpr std::size_t most_comparisons = 64UL << 20U;
    if ((one_end - begin) * (other_end - begin) <= most_comparisons)
      keep_order(begin, one_end, other_end);
    else
      match_questions(begin, one_end, other_end);
    for (std::size_t i = one_end, j = other_end; i < one_.calls.size(); ++i, ++j)
      pair(i, j);
  }

private:
  bool same(std::size_t i, std::size_t j) const { return one_.questions[i] == other_.questions[j]; }
  void pair(std::size_t i, std::size_t j) {
    result_.pairs.push_back({.one = one_.calls[i], .other = other_.calls[j]});
  }

  void keep_order(std::size_t begin, std::size_t one_end, std::size_t other_end) {
    const CommonEnds common(std::span(one_.questions).subspan(begin, one_end - begin),
                            std::span(other_.questions).subspan(begin, other_end - begin));
    std::size_t i = begin;
    std::size_t j = begin;
    while (i < one_end && j < other_end) {
      if (same(i, j))
        pair(i++, j++);
      else if (common.at(i + 1 - begin, j - begin) >= common.at(i - begin, j + 1 - begin))
        result_.only_one.push_back(one_.calls[i++]);
      else
        result_.only_other.push_back(other_.calls[j++]);
    }
    for (; i < one_end; ++i)
      result_.only_one.push_back(one_.calls[i]);
    for (; j < other_end; ++j)
      result_.only_other.push_back(other_.calls[j]);
  }

  /// For sequences too long for the other way: the same question the third time is the same call as
  /// the same question the third time, wherever it stands.
  void match_questions(std::size_t begin, std::size_t one_end, std::size_t other_end) {
    std::unordered_map<int, std::vector<std::size_t>> waiting;
    for (std::size_t j = other_end; j-- > begin;)
      waiting[other_.questions[j]].push_back(j);
    for (std::size_t i = begin; i < one_end; ++i) {
      auto &candidates = waiting[one_.questions[i]];
      if (candidates.empty()) {
        result_.only_one.push_back(one_.calls[i]);
        continue;
      }
      pair(i, candidates.back());
      candidates.pop_back();
    }
    for (auto &[question, rest] : waiting)
      for (const std::size_t j : rest)
        result_.only_other.push_back(other_.calls[j]);
  }

  const Stream &one_;
  const Stream &other_;
  Alignment &result_;
};

void by_sequence(std::vector<const Record *> &records) {
  std::ranges::sort(records, {}, &Record::sequence);
}

} // namespace

std::string question_of(const Record &record) {
  const std::string name = call_name(record);
  if (record.kind != observe::trace::Kind::call)
    return name;
  return rules::match(
      trace::call_of(record),
      [&](const rules::MapDma &map) {
        return fmt::format("{} {:x} {:x} {:x}", name, map.flags, map.iova.value, map.size.value);
      },
      [&](const rules::UnmapDma &unmap) {
        return fmt::format("{} {:x} {:x} {:x}", name, unmap.flags, unmap.iova.value,
                           unmap.size.value);
      },
      [&](const rules::GetInfo &info) { return fmt::format("{} {}", name, info.argsz); },
      // Pointers and descriptors say nothing.
      [&](const rules::UnknownCall & /*call*/) { return name; },
      [&](const rules::SetContainer & /*call*/) { return name; },
      [&](const auto & /*other*/) {
        const std::string argument = argument_text(record);
        return argument.empty() ? name : name + ' ' + argument;
      });
}

Alignment align(const observe::Recording &one, const observe::Recording &other) {
  Numbers numbers;
  auto streams = streams_of(one, numbers);
  auto others = streams_of(other, numbers);
  Alignment result;
  for (const auto &[place, stream] : streams) {
    Walk(stream, others[place], result).align();
    others.erase(place);
  }
  const Stream nothing;
  for (const auto &[place, stream] : others)
    Walk(nothing, stream, result).align();
  std::ranges::sort(result.pairs, {}, [](const auto &pair) { return pair.one->sequence; });
  by_sequence(result.only_one);
  by_sequence(result.only_other);
  return result;
}

} // namespace vfio_shim::cli
