// SPDX-License-Identifier: MIT
// A daemon that lacks something, whatever it is: memory of the kernel's, descriptors, memory of its
// own. Each call of a client's life says ENOMEM or succeeds, and can be made again; nobody else
// notices.

#include "client/fault_injection.h"

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <thread>

#include <fcntl.h>
#include <sys/resource.h>

#include "daemon.h"
#include "suite.h"

namespace {

using namespace legacy;
using namespace std::chrono_literals;

/// A call of the client under test, and what takes it back.
struct Step {
  std::string name;
  std::function<Answer()> call;
  std::function<void()> undo;
};

std::set<int> descriptors_of(pid_t process) {
  std::set<int> numbers;
  for (const auto &entry :
       std::filesystem::directory_iterator{"/proc/" + std::to_string(process) + "/fd"})
    numbers.insert(std::stoi(entry.path().filename()));
  return numbers;
}

/// A limit of another process, for the lifetime of this object.
class Limit {
public:
  Limit(pid_t process, __rlimit_resource resource, rlim_t most)
      : process_{process}, resource_{resource} {
    Answer::of(::prlimit(process, resource, nullptr, &before_)).or_throw("prlimit");
    const rlimit wanted{most, before_.rlim_max};
    Answer::of(::prlimit(process, resource, &wanted, nullptr)).or_throw("prlimit");
  }
  Limit(const Limit &) = delete;
  Limit &operator=(const Limit &) = delete;
  ~Limit() { ::prlimit(process_, resource_, &before_, nullptr); }

private:
  pid_t process_;
  __rlimit_resource resource_;
  rlimit before_{};
};

/// The address space that a process has, in bytes.
rlim_t address_space_of(pid_t process) {
  std::ifstream sizes{"/proc/" + std::to_string(process) + "/statm"};
  rlim_t pages = 0;
  sizes >> pages;
  return pages * page.count;
}

class FailingDaemonSuite : public LegacySuite {
protected:
  void TearDown() override {
    device_.reset();
    group_file_.reset();
    container_.reset();
    innocent_.reset();
  }

  pid_t daemon() const { return daemon_; }

  /// Has `endure` try each call of a client's life. It leaves the call done.
  void live(const std::function<void(const Step &)> &endure) {
    const PciDevice edu = topology::lone_edus(2)[0];
    const Iova shared_iova = some_iova + 1_MiB;
    const Memory memory{page * 2};
    const Memory shared = Memory::allocate(MemoryKind::MemfdShared, page * 2);
    const auto unmap = [&] { EXPECT_EQ(container_->unmap(some_iova, page * 2), unmaps(page * 2)); };
    const auto map = [&] { return container_->map(some_iova, memory); };
    for (const Step &step : std::initializer_list<Step>{
             {"open the container", [&] { return opens(provider().container, container_); },
              [&] { container_.reset(); }},
             {"open the group",
              [&] { return opens(provider().group_path(edu.group), group_file_); },
              [&] { group_file_.reset(); }},
             {"set the container",
              [&] { return group_file_->ioctl(VFIO_GROUP_SET_CONTAINER, &container_number()); },
              [&] { EXPECT_EQ(group_file_->ioctl(VFIO_GROUP_UNSET_CONTAINER), succeeds); }},
             {"set the IOMMU", [&] { return container_->set_iommu(IommuType::Type1v2); },
              [&] {
                EXPECT_EQ(group_file_->ioctl(VFIO_GROUP_UNSET_CONTAINER), succeeds);
                EXPECT_EQ(group_file_->ioctl(VFIO_GROUP_SET_CONTAINER, &container_number()),
                          succeeds);
              }},
             {"map private memory", map, unmap},
             {"map shared memory", [&] { return container_->map(shared_iova, shared); },
              [&] { EXPECT_EQ(container_->unmap(shared_iova, page * 2), unmaps(page * 2)); }},
             {"unmap",
              [&] {
                const Answer answer = container_->unmap(some_iova, page * 2);
                return answer == unmaps(page * 2) ? succeeds : answer;
              },
              [&] { EXPECT_EQ(map(), succeeds); }},
             {"open the device",
              [&] {
                const Answer answer =
                    group_file_->ioctl(VFIO_GROUP_GET_DEVICE_FD, edu.address.c_str());
                if (answer.ok())
                  device_.emplace(Fd{static_cast<int>(answer.value())});
                return answer;
              },
              [&] { device_.reset(); }},
         }) {
      SCOPED_TRACE(step.name);
      endure(step);
      if (HasFatalFailure() || HasNonfatalFailure())
        return;
    }
    expect_dma_works(*container_, Edu{*device_});
    EXPECT_EQ(container_->unmap_all(), unmaps(page * 2)) << "what is mapped is what was mapped";
  }

  /// After a call that was to fail: undoes it and makes sure that it can be made again, and that
  /// nobody else has noticed.
  void recover(const Step &step, const Answer &answer) {
    if (!answer.ok()) {
      const Answer again = step.call();
      ASSERT_TRUE(again.ok()) << again << " when it is made again, after " << answer;
    }
    step.undo();
    const Memory memory{page};
    ASSERT_EQ(innocent().container.map(some_iova, memory), succeeds);
    ASSERT_EQ(innocent().container.unmap_all(), unmaps(page));
  }

private:
  template <typename File>
  static Answer opens(const std::string &path, std::optional<File> &file) {
    const Answer answer = Answer::of(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (answer.ok())
      file.emplace(Fd{static_cast<int>(answer.value())});
    return answer;
  }
  int &container_number() {
    number_ = container_->fd().number();
    return number_;
  }
  /// Another client, which is served all the time.
  Client &innocent() {
    if (!innocent_)
      innocent_.emplace(provider(), topology::lone_edus(2)[1]);
    return *innocent_;
  }

  pid_t daemon_ = daemon_of(provider());
  int number_ = -1;
  std::optional<Container> container_;
  std::optional<Fd> group_file_;
  std::optional<Device> device_;
  std::optional<Client> innocent_;
};

class FailingDaemon : public FailingDaemonSuite {};

std::vector<Provider> providers_with_a_daemon() {
  std::vector<Provider> served = providers_under_test();
  std::erase_if(served, [](const Provider &p) { return !p.name.starts_with("shim"); });
  return served;
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FailingDaemon);
INSTANTIATE_TEST_SUITE_P(, FailingDaemon, testing::ValuesIn(providers_with_a_daemon()),
                         [](const auto &info) { return info.param.identifier(); });

TEST_P(FailingDaemon, TheKernelHasNoMemoryForIt) {
  FaultInjection injection;
  FailingProcess failing{injection, daemon()};
  const auto endure = [&](const Step &step, FailingProcess::Kind kind, unsigned long pace) {
    constexpr unsigned most_attempts = 2000;
    for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
      const unsigned long room = attempt * pace;
      SCOPED_TRACE("room for " + std::to_string(room));
      failing.arm(kind, room);
      const Answer answer = step.call();
      const bool failed = failing.disarm();
      EXPECT_TRUE(answer.ok() || (failed && answer == fails(ENOMEM))) << answer;
      recover(step, answer);
      if (!failed || HasFatalFailure() || HasNonfatalFailure())
        return;
    }
    FAIL() << "it needs memory without end";
  };
  live([&](const Step &step) {
    endure(step, FailingProcess::Kind::Pages, 1);
    if (!HasFatalFailure())
      endure(step, FailingProcess::Kind::Objects, 256);
    if (!HasFatalFailure()) {
      ASSERT_TRUE(step.call().ok());
    }
  });
}

TEST_P(FailingDaemon, TheKernelHasNoMemoryForTheClient) {
  constexpr unsigned most_allocations = 3000;
  FaultInjection injection;
  FailingThread thread{injection};
  live([&](const Step &step) {
    for (unsigned nth = 1;; ++nth) {
      SCOPED_TRACE("allocation " + std::to_string(nth));
      ASSERT_LT(nth, most_allocations);
      thread.arm(nth);
      const Answer answer = step.call();
      const Injected injected = thread.disarm();
      if (injected == Injected::Nothing) {
        ASSERT_TRUE(answer.ok()) << answer;
        return;
      }
      if (injected ==
          Injected::Memory) { // ENFILE is what the kernel says if a socket gets no memory.
        EXPECT_TRUE(answer.ok() || answer == fails(ENOMEM) || answer == fails(ENFILE)) << answer;
      }
      recover(step, answer);
      if (HasFatalFailure() || HasNonfatalFailure())
        return;
    }
  });
}

TEST_P(FailingDaemon, HasNoDescriptorsLeft) {
  constexpr rlim_t most_needed = 24;
  live([&](const Step &step) {
    for (rlim_t left = 0; left <= most_needed; ++left) {
      SCOPED_TRACE(std::to_string(left) + " descriptors left");
      const std::set<int> open = descriptors_of(daemon());
      Answer answer = succeeds;
      {
        const Limit limit{daemon(), RLIMIT_NOFILE, static_cast<rlim_t>(*open.rbegin()) + 1 + left};
        answer = step.call();
      }
      // ENFILE: the daemon's last descriptors are not for what stays.
      EXPECT_TRUE(answer.ok() || answer == fails(ENOMEM) || answer == fails(ENFILE)) << answer;
      recover(step, answer);
      if (HasFatalFailure())
        return;
    }
    ASSERT_TRUE(step.call().ok());
  });
}

TEST_P(FailingDaemon, HasNoMemoryLeft) {
  live([&](const Step &step) {
    for (const Bytes left : {0_B, 64_KiB, 1_MiB, 16_MiB, 128_MiB}) {
      SCOPED_TRACE(std::to_string(left.count) + " bytes left");
      Answer answer = succeeds;
      {
        const Limit limit{daemon(), RLIMIT_AS, address_space_of(daemon()) + left.count};
        answer = step.call();
      }
      EXPECT_TRUE(answer.ok() || answer == fails(ENOMEM)) << answer;
      recover(step, answer);
      if (HasFatalFailure())
        return;
    }
    ASSERT_TRUE(step.call().ok());
  });
}

TEST_P(FailingDaemon, KeepsNothingOfWhatFailed) {
  const PciDevice device = topology::lone_edus(1)[0];
  const auto used = [&] { return descriptors_of(daemon()).size(); };
  expect_a_client_works(provider(), device);
  const std::size_t before = used();
  FaultInjection injection;
  FailingProcess failing{injection, daemon()};
  for (unsigned long room = 0; room < 100; ++room) {
    failing.arm(FailingProcess::Kind::Pages, room);
    try {
      const Client client{provider(), device};
      const Memory memory{page};
      client.container.map(some_iova, memory);
    } catch (const std::system_error &) {
      // Something has failed, as was intended.
    }
    failing.disarm();
  }
  expect_a_client_works(provider(), device);
  const auto give_up = std::chrono::steady_clock::now() + 3s;
  while (used() > before && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(20ms);
  EXPECT_LE(used(), before);
}

} // namespace
