// SPDX-License-Identifier: MIT
/// @file
/// Random programs against random groups: whatever they do, the backend, the capabilities and the
/// container's own answers agree.

#include <map>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "support/machine_test.hpp"

namespace vfio_shim::test {
namespace {

constexpr std::uint64_t page = 0x1000;

/// One call of the program. What it does not need it ignores.
struct Action {
  enum class Kind { join, leave, set_iommu, map, unmap, unmap_all, spoil } kind;
  int group;
  std::uint64_t first; ///< In pages.
  std::uint64_t count;
  int code;
};

constexpr std::array groups{first_group, second_group, pair_group};

std::ostream &operator<<(std::ostream &out, const Action &action) {
  static constexpr std::array names{"join",  "leave",     "set_iommu", "map",
                                    "unmap", "unmap_all", "spoil"};
  return out << names[static_cast<std::size_t>(action.kind)] << "(group " << action.group
             << ", pages " << action.first << "+" << action.count << ", errno " << action.code
             << ")";
}

rc::Gen<Action> actions() {
  using Kind = Action::Kind;
  const auto kinds = rc::gen::weightedElement<Kind>({{3, Kind::join},
                                                     {1, Kind::leave},
                                                     {2, Kind::set_iommu},
                                                     {8, Kind::map},
                                                     {4, Kind::unmap},
                                                     {1, Kind::unmap_all},
                                                     {1, Kind::spoil}});
  // Around the end of what pair_group reserves, so that it sometimes collides.
  const auto firsts =
      rc::gen::map(rc::gen::inRange<std::uint64_t>(0, 32), [](std::uint64_t number) {
        return pair_reserved.last.value / page - 16 + number;
      });
  return rc::gen::build<Action>(
      rc::gen::set(&Action::kind, kinds), rc::gen::set(&Action::group, rc::gen::inRange(0, 3)),
      rc::gen::set(&Action::first, firsts),
      rc::gen::set(&Action::count, rc::gen::inRange<std::uint64_t>(1, 8)),
      rc::gen::set(&Action::code, rc::gen::element(EFAULT, ENOMEM, EPERM)));
}

/// The program, and what it knows by itself of how things must stand.
class RandomProgram {
public:
  RandomProgram(FakeMachine &machine, Program &program)
      : machine_(machine), container_(program.open_container()) {
    for (const GroupId id : groups)
      files_.push_back(program.open_group(id));
  }

  void run(const Action &action) {
    switch (action.kind) {
    case Action::Kind::join:
      if (files_[action.group].set_container(container_).ok())
        joined_.insert(action.group);
      break;
    case Action::Kind::leave:
      RC_ASSERT(files_[action.group].unset_container().ok() == joined_.contains(action.group));
      joined_.erase(action.group);
      if (joined_.empty())
        mapped_.clear();
      break;
    case Action::Kind::set_iommu:
      container_.set_iommu();
      break;
    case Action::Kind::map:
      if (container_.map(Iova{action.first * page}, some_memory, Bytes{action.count * page}).ok())
        mapped_[action.first] = action.count;
      break;
    case Action::Kind::unmap:
      unmap(action);
      break;
    case Action::Kind::unmap_all:
      if (const Answer answer = container_.unmap_all(); answer.ok()) {
        RC_ASSERT(answer == answers(static_cast<std::int64_t>(bytes_mapped())));
        mapped_.clear();
      }
      break;
    case Action::Kind::spoil:
      machine_.fail_next(action.group == 0   ? "map"
                         : action.group == 1 ? "claim"
                                             : "attach_claimed",
                         action.code);
      break;
    }
    check();
  }

private:
  void unmap(const Action &action) {
    const Answer answer = container_.unmap(Iova{action.first * page}, Bytes{action.count * page});
    if (!answer.ok())
      return;
    std::uint64_t gone = 0;
    std::erase_if(mapped_, [&](const auto &mapping) {
      const bool covered = action.first <= mapping.first &&
                           mapping.first + mapping.second <= action.first + action.count;
      gone += covered ? mapping.second * page : 0;
      return covered;
    });
    RC_ASSERT(answer == answers(static_cast<std::int64_t>(gone)));
  }

  void check() {
    std::vector<IovaRange> wanted;
    for (const auto &[first, count] : mapped_)
      wanted.push_back({Iova{first * page}, Iova{(first + count) * page - 1}});
    RC_ASSERT(machine_.mapped() == wanted);
    RC_ASSERT(machine_.backends_alive() == (joined_.empty() ? 0U : 1U));
    for (int group = 0; group < 3; ++group)
      RC_ASSERT(machine_.claimed(groups[group]) == joined_.contains(group));
    const Answer api = container_.call(VFIO_IOMMU_GET_INFO, nullptr);
    if (api == fails(EFAULT)) { // An IOMMU is set.
      const IommuInfo info = container_.info();
      RC_ASSERT(info.available == 65535 - mapped_.size());
    } else {
      RC_ASSERT(mapped_.empty());
    }
  }

  std::uint64_t bytes_mapped() const {
    std::uint64_t sum = 0;
    for (const auto &[first, count] : mapped_)
      sum += count * page;
    return sum;
  }

  FakeMachine &machine_;
  ContainerFile container_;
  std::vector<GroupFile> files_;
  std::set<int> joined_;
  std::map<std::uint64_t, std::uint64_t> mapped_; ///< First page, number of pages.
};

RC_GTEST_FIXTURE_PROP(MachineTest, AnyProgramLeavesContainerAndBackendInAgreement, ()) {
  RandomProgram random(machine, program);
  for (const Action &action : *rc::gen::container<std::vector<Action>>(actions()))
    random.run(action);
}

} // namespace
} // namespace vfio_shim::test
