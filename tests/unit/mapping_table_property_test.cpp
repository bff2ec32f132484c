// SPDX-License-Identifier: MIT
/// @file
/// The mapping table against a model so naive that it can be seen to be right: a page, and who has
/// mapped it.

#include "rules/mapping_table.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <ostream>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "support/answer.hpp"

namespace vfio_shim::rules {

namespace {

using test::Answer;
using test::answer_of;
using test::answers;
using test::fails;
using test::succeeds;

constexpr std::uint64_t page = 0x1000;
constexpr int pages = 40;          ///< The model's address space…
constexpr int first_reserved = 24; ///< …with a hole in it.
constexpr int last_reserved = 26;
constexpr std::uint32_t limit = 6;

/// One map or unmap. Everything is counted in pages from the base of the address space; off is
/// added to the IOVA in bytes.
struct Step {
  bool map;
  int first;
  int count;
  int off;

  friend std::ostream &operator<<(std::ostream &out, const Step &step) {
    return out << (step.map ? "map(" : "unmap(") << step.first << ", " << step.count << ")+"
               << step.off;
  }
};

} // namespace

} // namespace vfio_shim::rules

namespace rc {

template <>
struct Arbitrary<vfio_shim::rules::Step> {
  static Gen<vfio_shim::rules::Step> arbitrary() {
    using vfio_shim::rules::pages;
    using vfio_shim::rules::Step;
    const auto counts = gen::weightedOneOf<int>(
        {{8, gen::inRange(1, 6)}, {3, gen::inRange(1, pages + 2)}, {1, gen::just(0)}});
    const auto offsets = gen::weightedElement<int>({{30, 0}, {1, 1}, {1, 0x800}, {1, 0xfff}});
    return gen::build<Step>(
        gen::set(&Step::map, gen::weightedElement<bool>({{2, true}, {1, false}})),
        gen::set(&Step::first, gen::inRange(0, pages)), gen::set(&Step::count, counts),
        gen::set(&Step::off, offsets));
  }
};

} // namespace rc

namespace vfio_shim::rules {

namespace {

/// Where the model's page 0 lies, and whether the IOVAs end right behind the model's last page.
struct Place {
  std::uint64_t base;
  bool at_the_top;
};

constexpr Place at_zero{.base = 0, .at_the_top = false};
constexpr Place in_the_middle{.base = 0x7f0000000, .at_the_top = false};
constexpr Place at_the_top{.base = UINT64_MAX - pages * page + 1, .at_the_top = true};

class Model {
public:
  Model(Place place, Version version) : place_(place), version_(version) {}

  Answer map(const Step &step) {
    if (step.count == 0)
      return fails(EINVAL);
    if (overflows(step))
      return fails(EOVERFLOW);
    if (step.off != 0)
      return fails(EINVAL);
    for (int number = step.first; number < step.first + step.count; ++number)
      if (owner(number) != none)
        return fails(EEXIST);
    if (owners().size() == limit)
      return fails(ENOSPC);
    for (int number = step.first; number < step.first + step.count; ++number)
      if (number >= pages || (first_reserved <= number && number <= last_reserved))
        return fails(EINVAL);
    ++last_owner_;
    std::fill_n(owner_.begin() + step.first, step.count, last_owner_);
    return succeeds;
  }

  Answer unmap(const Step &step) {
    if (step.off != 0 || step.count == 0)
      return fails(EINVAL);
    if (overflows(step))
      return fails(EOVERFLOW);
    return version_ == Version::v1 ? unmap_v1(step) : unmap_v2(step);
  }

  std::set<int> owners() const {
    std::set<int> all(owner_.begin(), owner_.end());
    all.erase(none);
    return all;
  }

  /// First page and number of pages of every mapping.
  std::vector<std::pair<int, int>> mappings() const {
    std::vector<std::pair<int, int>> all;
    for (const int who : owners())
      all.emplace_back(std::find(owner_.begin(), owner_.end(), who) - owner_.begin(),
                       std::count(owner_.begin(), owner_.end(), who));
    std::sort(all.begin(), all.end());
    return all;
  }

private:
  static constexpr int none = 0;

  bool overflows(const Step &step) const {
    const auto end = (step.first + step.count) * static_cast<int>(page) + step.off;
    return place_.at_the_top && end > pages * static_cast<int>(page);
  }

  int owner(int number) const { return number < pages ? owner_[number] : none; }

  bool covered(const Step &step, int number) const {
    return step.first <= number && number < step.first + step.count;
  }

  /// Everything of which a page is covered must be covered altogether.
  Answer unmap_v2(const Step &step) {
    std::set<int> touched;
    for (int number = 0; number < pages; ++number)
      if (covered(step, number) && owner(number) != none)
        touched.insert(owner(number));
    for (int number = 0; number < pages; ++number)
      if (touched.contains(owner(number)) && !covered(step, number))
        return fails(EINVAL);
    return take(touched);
  }

  /// Nothing if the range starts inside a mapping; otherwise whatever starts inside the range.
  Answer unmap_v1(const Step &step) {
    if (step.first > 0 && owner(step.first) != none && owner(step.first - 1) == owner(step.first))
      return answers(0);
    std::set<int> touched;
    for (int number = 0; number < pages; ++number)
      if (covered(step, number) && owner(number) != none)
        touched.insert(owner(number));
    return take(touched);
  }

  Answer take(const std::set<int> &who) {
    int taken = 0;
    for (int &owner : owner_)
      if (who.contains(owner)) {
        owner = none;
        ++taken;
      }
    return answers(taken * static_cast<int>(page));
  }

  Place place_;
  Version version_;
  std::array<int, pages> owner_{};
  int last_owner_ = none;
};

/// The table in the model's terms.
class Table {
public:
  Table(Place place, Version version) : place_(place), version_(version) {
    space_.page_sizes = page | (page << 9);
    space_.usable = {{iova(0), Iova{iova(first_reserved).value - 1}},
                     {iova(last_reserved + 1), Iova{iova(pages).value - 1}}};
  }

  Answer map(const Step &step) {
    const MapRequest request{.iova = Iova{iova(step.first).value + step.off},
                             .vaddr = ClientAddr{0x10000},
                             .size = Bytes{step.count * page},
                             .access = {.read = true, .write = true}};
    const auto checked = table_.check_map(request, space_);
    if (checked)
      table_.insert(MappingTable::entry_of(request));
    return answer_of(checked);
  }

  Answer unmap(const Step &step) {
    const auto run = table_.find_unmap(Iova{iova(step.first).value + step.off},
                                       Bytes{step.count * page}, Bytes{page}, version_);
    if (!run)
      return answer_of(run);
    RC_ASSERT(sum_of(*run) == run->size.value);
    table_.erase(*run);
    return answers(static_cast<std::int64_t>(run->size.value));
  }

  std::vector<std::pair<int, int>> mappings() {
    std::vector<std::pair<int, int>> all;
    const auto run = table_.all();
    for (auto mapping = run.begin; mapping != run.end; ++mapping)
      all.emplace_back((mapping->first.value - place_.base) / page,
                       mapping->second.size.value / page);
    return all;
  }

  std::uint32_t available() const { return table_.available(); }

private:
  Iova iova(int number) const { return Iova{place_.base + number * page}; }

  static std::uint64_t sum_of(const MappingTable::Run &run) {
    std::uint64_t sum = 0;
    for (auto mapping = run.begin; mapping != run.end; ++mapping)
      sum += mapping->second.size.value;
    return sum;
  }

  Place place_;
  Version version_;
  AddressSpace space_;
  MappingTable table_{limit};
};

void behaves_like_the_model(Place place, Version version) {
  const auto steps = *rc::gen::arbitrary<std::vector<Step>>();
  Model model(place, version);
  Table table(place, version);
  for (const Step &step : steps) {
    const Answer wanted = step.map ? model.map(step) : model.unmap(step);
    RC_LOG() << step << ": " << wanted << '\n';
    const Answer given = step.map ? table.map(step) : table.unmap(step);
    RC_ASSERT(given == wanted);
    RC_ASSERT(table.mappings() == model.mappings());
    RC_ASSERT(table.available() == limit - model.owners().size());
  }
}

RC_GTEST_PROP(MappingTableProperty, V1BehavesLikeAPageSet, ()) {
  behaves_like_the_model(*rc::gen::element(at_zero, in_the_middle), Version::v1);
}

RC_GTEST_PROP(MappingTableProperty, V2BehavesLikeAPageSet, ()) {
  behaves_like_the_model(*rc::gen::element(at_zero, in_the_middle), Version::v2);
}

RC_GTEST_PROP(MappingTableProperty, V1BehavesLikeAPageSetAtTheTopOfTheIovas, ()) {
  behaves_like_the_model(at_the_top, Version::v1);
}

RC_GTEST_PROP(MappingTableProperty, V2BehavesLikeAPageSetAtTheTopOfTheIovas, ()) {
  behaves_like_the_model(at_the_top, Version::v2);
}

} // namespace
} // namespace vfio_shim::rules
