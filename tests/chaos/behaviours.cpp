// SPDX-License-Identifier: MIT
#include "behaviours.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "known_differences.h"
#include "life.hpp"
#include "process.hpp"
#include "text.hpp"

namespace chaos {

using namespace legacy;
using namespace std::chrono_literals;

namespace {

/// Where the main thread maps for a moment.
constexpr Iova moment_iova = Lane::behind_all;
constexpr Bytes moment_size = 4_MiB;

void map_and_unmap(Life &life, Witness &witness, Iova iova, const Memory &memory, CallKind kind) {
  const Answer mapped = witness.must(kind, "map for a moment", succeeds,
                                     [&] { return life.container().map(iova, memory); });
  if (mapped != succeeds)
    return;
  witness.must_in_the_end(CallKind::unmap, "unmap what was mapped for a moment",
                          unmaps(memory.size()),
                          [&] { return life.container().unmap(iova, memory.size()); });
}

class Asks final : public Deed {
public:
  std::string_view name() const override { return "asks"; }
  void step(Life &life) const override {
    Witness &witness = life.witness();
    const Provider &provider = life.provider();
    switch (life.random().below(6)) {
    case 0:
      witness.must(CallKind::ask, "GET_API_VERSION", answers(VFIO_API_VERSION),
                   [&] { return life.container().api_version(); });
      break;
    case 1:
      witness.must(CallKind::ask, "CHECK_EXTENSION TYPE1v2", answers(1),
                   [&] { return life.container().check_extension(VFIO_TYPE1v2_IOMMU); });
      break;
    case 2:
      witness.must(CallKind::ask, "IOMMU_GET_INFO", succeeds, [&] {
        return answer_of([&] {
          witness.require(!life.container().info().iova_ranges.empty(),
                          "there are no usable IOVAs");
        });
      });
      break;
    case 3:
      witness.must(CallKind::ask, "GROUP_GET_STATUS",
                   answers(VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET),
                   [&] { return life.group().status(); });
      break;
    case 4:
      witness.must(CallKind::set_up, "SET_IOMMU again",
                   expected(provider, Behaviour::SetIommuTwice, fails(EINVAL)),
                   [&] { return life.container().set_iommu(IommuType::Type1v2); });
      break;
    default:
      witness.must(CallKind::ask, "an unknown ioctl", fails(ENOTTY),
                   [&] { return life.group().fd().ioctl(_IO(VFIO_TYPE, VFIO_BASE + 99)); });
    }
  }
};

class OpensMore final : public Deed {
public:
  std::string_view name() const override { return "opens-more"; }
  void step(Life &life) const override {
    Witness &witness = life.witness();
    // iommufd's node is root's, where the container's is for everybody.
    if (::access(life.provider().container.c_str(), R_OK | W_OK) != 0)
      return;
    std::optional<Container> second;
    const Answer opened = witness.must(CallKind::open, "open a second container", succeeds, [&] {
      return answer_of([&] { second.emplace(life.provider()); });
    });
    if (!opened.ok())
      return;
    witness.must(CallKind::ask, "GET_API_VERSION of the second container",
                 answers(VFIO_API_VERSION), [&] { return second->api_version(); });
    witness.must(CallKind::set_up, "SET_CONTAINER of a group that has one", fails(EINVAL),
                 [&] { return life.group().set_container(*second); });
  }
};

class OpensItsDeviceAgain final : public Deed {
public:
  std::string_view name() const override { return "opens-its-device-again"; }
  void step(Life &life) const override {
    const std::string &device = life.setting().devices.front().address;
    life.witness().must(CallKind::get_device, "GET_DEVICE_FD again", succeeds,
                        [&] { return life.group().try_device(device); });
    life.witness().must(CallKind::ask, "GET_DEVICE_FD of no device", fails(ENODEV),
                        [&] { return life.group().try_device("0000:ff:1f.7"); });
  }
};

/// DMA takes 100 ms for each direction: seldom.
class CopiesByDma final : public Deed {
public:
  std::string_view name() const override { return "copies-by-dma"; }
  void step(Life &life) const override {
    if (!life.random().chance(15))
      return;
    constexpr std::array kinds{MemoryKind::Anonymous, MemoryKind::Anonymous,
                               MemoryKind::MemfdShared, MemoryKind::MemfdPrivate,
                               MemoryKind::ShmemFile};
    const MemoryKind kind = life.random().pick(kinds);
    const auto seed = static_cast<std::uint32_t>(life.random().next());
    const Memory memory = Memory::allocate(kind, page * 2);
    memory.fill({0}, Edu::largest_transfer, seed);
    Witness &witness = life.witness();
    if (witness.must(call_mapping(kind), "map for DMA", succeeds,
                     [&] { return life.container().map(moment_iova, memory); }) != succeeds)
      return;
    witness.say("copy by DMA");
    life.edu().fetch(moment_iova, Edu::largest_transfer);
    life.edu().store(moment_iova + page, Edu::largest_transfer);
    witness.require(memory.holds(page, Edu::largest_transfer, seed),
                    "DMA of " + to_string(kind) + " memory did not arrive");
    ++life.board().sums.copies;
    witness.must_in_the_end(CallKind::unmap, "unmap after DMA", unmaps(memory.size()),
                            [&] { return life.container().unmap(moment_iova, memory.size()); });
  }
};

/// Maps a BAR for DMA; if it is memory, has the other device write there.
class MapsABar final : public Deed {
public:
  std::string_view name() const override { return "maps-a-bar"; }
  void step(Life &life) const override {
    Witness &witness = life.witness();
    const bool memory = life.setting().devices.back().is_ivshmem() && life.random().chance(60);
    const Device &device = memory ? *life.devices().back() : *life.devices().front();
    witness.say("mmap a BAR");
    device.enable_memory_and_dma();
    const MappedRegion bar =
        device.map_region(memory ? VFIO_PCI_BAR2_REGION_INDEX : VFIO_PCI_BAR0_REGION_INDEX);
    const Bytes size = std::min(bar.size(), most_mapped);
    const Answer right = expected(life.provider(), Behaviour::PeerToPeer, succeeds);
    const Answer mapped = witness.must(CallKind::map_device, "map a BAR", right, [&] {
      return life.container().map(bar_iova, bar.data(), size);
    });
    if (mapped != succeeds)
      return;
    if (memory && life.random().chance(15))
      write_by_dma(life, bar);
    witness.must_in_the_end(CallKind::unmap, "unmap a BAR", unmaps(size),
                            [&] { return life.container().unmap(bar_iova, size); });
  }

private:
  static constexpr Iova bar_iova = moment_iova + moment_size;
  static constexpr Bytes most_mapped = 4_MiB;

  static void write_by_dma(Life &life, const MappedRegion &bar) {
    Witness &witness = life.witness();
    const Memory source{page};
    source.fill({0}, Edu::largest_transfer, static_cast<std::uint32_t>(life.random().next()));
    const Answer mapped = witness.must(CallKind::map_private, "map for DMA to a BAR", succeeds,
                                       [&] { return life.container().map(moment_iova, source); });
    if (mapped != succeeds)
      return;
    std::memset(bar.data(), 0, Edu::largest_transfer.count);
    witness.say("copy to a BAR by DMA");
    life.edu().fetch(moment_iova, Edu::largest_transfer);
    life.edu().store(bar_iova, Edu::largest_transfer);
    witness.require(std::memcmp(bar.data(), source.data(), Edu::largest_transfer.count) == 0,
                    "DMA to a BAR did not arrive");
    ++life.board().sums.copies;
    witness.must_in_the_end(CallKind::unmap, "unmap after DMA to a BAR", unmaps(page),
                            [&] { return life.container().unmap(moment_iova, page); });
  }
};

/// Its child maps memory of its own in the parent's container.
class Forks final : public Deed {
public:
  std::string_view name() const override { return "forks"; }
  void step(Life &life) const override {
    const bool killed = life.random().chance(30);
    const bool leaves_a_mapping = !killed && life.random().chance(50);
    const auto patience = life.random().time(0us, 20'000us);
    life.witness().say("fork");
    const pid_t child = ::fork();
    life.witness().require(child >= 0, "fork fails");
    if (child == 0)
      be_the_child(life, leaves_a_mapping);
    if (killed) {
      std::this_thread::sleep_for(patience);
      ::kill(child, SIGKILL);
    }
    life.witness().say("wait for its child");
    const int status = wait_for(child);
    const bool as_meant = killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0;
    // One that gives up, or is done before it is killed, ends with 0.
    if (!as_meant && !(killed && status == 0))
      throw Complaint{"its forked child " + describe_end(status)};
    clear_up(life);
  }

private:
  static constexpr Bytes childs_size = page * 3;

  static Iova iova() { return Lane::start_of(Lane::count - 1); }

  [[noreturn]] static void be_the_child(Life &life, bool leaves_a_mapping) {
    Witness witness{life.board(), life.setting().place, childs_desk};
    try {
      const Memory memory{childs_size};
      for (int i = 0; i < 4; ++i)
        map_and_unmap(life, witness, iova(), memory, CallKind::map_private);
      if (leaves_a_mapping)
        witness.must(CallKind::map_private, "map, and end", succeeds,
                     [&] { return life.container().map(iova(), memory); });
    } catch (const GivesUp &) {
    } catch (const std::exception &thrown) {
      life.fail(std::string{"in a forked child: "} + thrown.what());
    }
    ::_exit(0);
  }

  static void clear_up(Life &life) {
    // Whether the child came to map is its own affair.
    const auto unmap = [&] { return life.container().unmap(iova(), moment_size); };
    for (;;) {
      const Answer answer =
          life.witness().must_succeed(CallKind::unmap, "unmap what its child left", unmap);
      if (!answer.ok())
        continue; // Excused, and so not for ever.
      life.witness().require(answer == unmaps({0}) || answer == unmaps(childs_size),
                             "a child has left a mapping of another size");
      return;
    }
  }
};

class GetsAlarms final : public Deed {
public:
  std::string_view name() const override { return "gets-alarms"; }
  void step(Life &life) const override {
    const suseconds_t period = static_cast<suseconds_t>(life.random().between(300, 4000));
    const itimerval timer{{0, period}, {0, period}}, none{};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
    for (int i = 0; i < 10; ++i)
      life.lane().step();
    ::setitimer(ITIMER_REAL, &none, nullptr);
  }
};

/// Numbered real-time signals from another thread: none is lost, and none overtakes another.
class GetsNumberedSignals final : public Deed {
public:
  std::string_view name() const override { return "gets-numbered-signals"; }
  void step(Life &life) const override {
    constexpr int count = 20;
    const pid_t receiver = static_cast<pid_t>(::syscall(SYS_gettid));
    expect_numbered_signals();
    const Memory memory{page};
    {
      std::jthread sender{[receiver] {
        for (int number = 0; number < count; ++number) {
          send_numbered_signal(receiver, number);
          std::this_thread::sleep_for(500us);
        }
      }};
      for (int i = 0; i < 8; ++i)
        map_and_unmap(life, life.witness(), moment_iova, memory, CallKind::map_private);
    }
    const NumberedSignals seen = numbered_signals();
    life.witness().require(seen.received == count,
                           text("%d of %d signals arrived", seen.received, count));
    life.witness().require(seen.out_of_order == 0, "signals came out of order");
  }
};

class MapsFromShortThreads final : public Deed {
public:
  std::string_view name() const override { return "maps-from-short-threads"; }
  void step(Life &life) const override {
    std::string wrong;
    bool gives_up = false;
    for (int i = 0; i < 3 && wrong.empty() && !gives_up; ++i)
      std::thread{[&] {
        try {
          const Memory memory{page * 2};
          map_and_unmap(life, life.witness(), moment_iova, memory, CallKind::map_private);
        } catch (const GivesUp &) {
          gives_up = true;
        } catch (const std::exception &thrown) {
          wrong = thrown.what();
        }
      }}.join();
    if (gives_up)
      throw GivesUp{};
    life.witness().require(wrong.empty(), "in a short thread: " + wrong);
  }
};

/// With threads it would take the descriptors from them, too.
class RunsOutOfDescriptors final : public Deed {
public:
  std::string_view name() const override { return "runs-out-of-descriptors"; }
  void step(Life &life) const override {
    if (life.has_threads())
      return;
    // Whatever mapping leaves in the client is there before.
    const Memory memory{page};
    map_and_unmap(life, life.witness(), moment_iova, memory, CallKind::map_private);
    {
      const NoFreeDescriptor none;
      life.witness().must(CallKind::open, "open without a free descriptor", fails(EMFILE),
                          [&] { return Fd::try_open(life.provider().container, O_RDWR); });
      life.witness().must(
          CallKind::get_device, "GET_DEVICE_FD without a free descriptor", fails(EMFILE),
          [&] { return life.group().try_device(life.setting().devices.front().address); });
      map_and_unmap(life, life.witness(), moment_iova, memory, CallKind::map_private);
    }
    life.witness().must(
        CallKind::get_device, "GET_DEVICE_FD with descriptors again", succeeds,
        [&] { return life.group().try_device(life.setting().devices.front().address); });
  }

private:
  /// Lowers the limit to what is open, for its lifetime.
  class NoFreeDescriptor {
  public:
    NoFreeDescriptor() {
      ::getrlimit(RLIMIT_NOFILE, &before_);
      const int free = ::fcntl(STDERR_FILENO, F_DUPFD, 0);
      ::close(free);
      const rlimit low{static_cast<rlim_t>(free), before_.rlim_max};
      ::setrlimit(RLIMIT_NOFILE, &low);
    }
    NoFreeDescriptor(const NoFreeDescriptor &) = delete;
    NoFreeDescriptor &operator=(const NoFreeDescriptor &) = delete;
    ~NoFreeDescriptor() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
  };
};

const auto &every_behaviour() {
  static const Asks asks;
  static const OpensMore opens_more;
  static const OpensItsDeviceAgain opens_its_device_again;
  static const CopiesByDma copies_by_dma;
  static const MapsABar maps_a_bar;
  static const Forks forks;
  static const GetsAlarms gets_alarms;
  static const GetsNumberedSignals gets_numbered_signals;
  static const MapsFromShortThreads maps_from_short_threads;
  static const RunsOutOfDescriptors runs_out_of_descriptors;
  static const std::array<const Deed *, 10> all{&asks,
                                                &opens_more,
                                                &opens_its_device_again,
                                                &copies_by_dma,
                                                &maps_a_bar,
                                                &forks,
                                                &gets_alarms,
                                                &gets_numbered_signals,
                                                &maps_from_short_threads,
                                                &runs_out_of_descriptors};
  return all;
}

} // namespace

std::vector<std::string_view> behaviour_names() {
  std::vector<std::string_view> names;
  for (const Deed *behaviour : every_behaviour())
    names.push_back(behaviour->name());
  return names;
}

std::vector<const Deed *> chosen_behaviours(const Selection &selection) {
  std::vector<const Deed *> chosen;
  for (const Deed *behaviour : every_behaviour())
    if (selection.has(behaviour->name()))
      chosen.push_back(behaviour);
  // There is always something to do.
  if (chosen.empty())
    chosen.push_back(every_behaviour()[0]);
  return chosen;
}

} // namespace chaos
