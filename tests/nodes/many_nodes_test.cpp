// SPDX-License-Identifier: MIT
/// @file
/// A thousand nodes at once, and the numbers they have.

#include "cuse/node.hpp"
#include "cuse/worker_pool.hpp"

#include "vfio_shim/fd.hpp"

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace vfio_shim::cuse {
namespace {

constexpr std::uint32_t first_group = 7000;
constexpr std::uint32_t group_count = 1000;

/// A node that can be known by the errno that open() gets.
class KnownNode final : public Node {
public:
  static int errno_of(GroupId id) { return EPERM + static_cast<int>(id.value % 11); }

  static Result<std::shared_ptr<KnownNode>> create(WorkerPool &pool, DeviceNumbers::Lease number,
                                                   GroupId id) {
    NodeLook look{.name = fmt::format("vfio-shim-test/{}", id.value),
                  .number = std::move(number),
                  .permissions = {}};
    std::shared_ptr<KnownNode> node(new KnownNode(pool, look.name, id));
    VFIO_SHIM_TRY(node->appear(std::move(look)));
    return node;
  }

  void open(fuse_req_t request, fuse_file_info & /*file*/) override {
    fuse_reply_err(request, errno_of(id_));
  }
  void release(fuse_req_t request, fuse_file_info & /*file*/) override {
    fuse_reply_err(request, 0);
  }
  void ioctl(fuse_req_t request, fuse_file_info & /*file*/, unsigned int /*command*/,
             std::uint64_t /*argument*/, bool /*compat*/) override {
    fuse_reply_err(request, ENOTTY);
  }

private:
  KnownNode(WorkerPool &pool, const std::string &name, GroupId id) : Node(pool, name), id_(id) {}

  const GroupId id_;
};

int errno_of_opening(const std::filesystem::path &path) {
  const Fd file{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  return file ? 0 : errno;
}

dev_t number_of(const std::filesystem::path &path) {
  struct stat node {};
  return ::stat(path.c_str(), &node) == 0 ? node.st_rdev : 0;
}

class ManyNodesTest : public ::testing::Test {
protected:
  void SetUp() override {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    janitor_ = std::move(Janitor::create().value());
    pool_ = std::move(WorkerPool::create(*janitor_).value());
  }
  void TearDown() override {
    for (const auto &node : nodes_)
      node->disappear();
    nodes_.clear();
  }

  void make(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t id = first; id < first + count; ++id) {
      auto number = number_of_group(GroupId{id});
      ASSERT_TRUE(number) << id;
      auto node = KnownNode::create(*pool_, std::move(*number), GroupId{id});
      ASSERT_TRUE(node) << id << ": " << node.error().describe();
      nodes_.push_back(std::move(*node));
    }
  }

  /// Waits until the one who had the number before has gone: a worker may be busy with it.
  Result<DeviceNumbers::Lease> number_of_group(GroupId id) {
    for (int tries = 0;; ++tries) {
      auto number = numbers_->of_group(id);
      if (number || tries == 1000)
        return number;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  const NumberBlock block_{.major = 127, .index = 62};
  std::shared_ptr<DeviceNumbers> numbers_ = DeviceNumbers::create(block_);
  std::unique_ptr<Janitor> janitor_;
  std::shared_ptr<WorkerPool> pool_;
  std::vector<std::shared_ptr<KnownNode>> nodes_;
};

TEST_F(ManyNodesTest, AThousandHaveTheNumbersOfTheirGroupsAndAreReachedByThem) {
  make(first_group, group_count);
  for (std::uint32_t id = first_group; id < first_group + group_count; ++id) {
    const auto path = fmt::format("/dev/vfio-shim-test/{}", id);
    EXPECT_EQ(number_of(path), block_.group(GroupId{id}));
    EXPECT_EQ(errno_of_opening(path), KnownNode::errno_of(GroupId{id})) << path;
  }
}

TEST_F(ManyNodesTest, ANodeThatSomebodyRemembersByItsNumberIsTheNextDaemonsAsWell) {
  const GroupId id{first_group};
  char directory[] = "/dev/shm/nodes.XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const auto remembered = std::filesystem::path(directory) / "group";
  ASSERT_EQ(::mknod(remembered.c_str(), S_IFCHR | 0600, block_.group(id)), 0);
  EXPECT_EQ(errno_of_opening(remembered), ENXIO);
  for (int times = 0; times < 50; ++times) {
    make(first_group, 1);
    ASSERT_FALSE(HasFatalFailure());
    EXPECT_EQ(errno_of_opening(remembered), KnownNode::errno_of(id));
    TearDown();
    ASSERT_TRUE(number_of_group(id));
    EXPECT_EQ(errno_of_opening(remembered), ENXIO);
  }
  std::filesystem::remove_all(directory);
}

TEST_F(ManyNodesTest, ANumberThatAnotherDaemonHasIsRefusedAndNamed) {
  make(first_group, 1);
  const auto others = DeviceNumbers::create(block_); // Locks prevent that.
  auto number = others->of_group(GroupId{first_group});
  ASSERT_TRUE(number);
  const auto other = KnownNode::create(*pool_, std::move(*number), GroupId{first_group + 1});
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().where.find(describe_number(block_.group(GroupId{first_group}))),
            std::string::npos)
      << other.error().describe();
  EXPECT_FALSE(std::filesystem::exists(fmt::format("/dev/vfio-shim-test/{}", first_group + 1)));
  EXPECT_EQ(errno_of_opening(fmt::format("/dev/vfio-shim-test/{}", first_group)),
            KnownNode::errno_of(GroupId{first_group}))
      << "the first one is served as before";
}

} // namespace
} // namespace vfio_shim::cuse
