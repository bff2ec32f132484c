// SPDX-License-Identifier: MIT
/// @file
/// Descriptors that stay leave room for those that do not.

#include "client/descriptor_reserve.hpp"

#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "support/answer.hpp"

namespace vfio_shim::client {
namespace {

using test::answer_of;
using test::fails;
using test::succeeds;

/// A table of this many descriptors, for the lifetime of this object.
class TableOf {
public:
  explicit TableOf(rlim_t size) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit wanted{.rlim_cur = size, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &wanted), 0);
  }
  TableOf(const TableOf &) = delete;
  TableOf &operator=(const TableOf &) = delete;
  ~TableOf() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

Fd any_file() {
  return Fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
}

/// Takes descriptors that stay until there is no room for them. @return Those taken.
std::vector<Fd> take_lasting() {
  std::vector<Fd> taken;
  while (room_for_lasting_descriptors())
    taken.push_back(any_file());
  return taken;
}

TEST(DescriptorReserveTest, KeepsTheLast64Free) {
  const TableOf table(512);
  const auto lasting = take_lasting();
  EXPECT_FALSE(lasting.empty());
  EXPECT_EQ(answer_of(room_for_lasting_descriptors()), fails(ENFILE));
  std::vector<Fd> brief;
  for (int count = 0; count < 64; ++count)
    ASSERT_TRUE(brief.emplace_back(any_file())) << count;
  EXPECT_FALSE(any_file());
  EXPECT_EQ(answer_of(room_for_lasting_descriptors()), fails(ENFILE)) << "with no number left";
}

TEST(DescriptorReserveTest, KeepsAQuarterOfASmallTable) {
  const TableOf table(64);
  const auto lasting = take_lasting();
  std::size_t brief = 0;
  std::vector<Fd> all;
  while (Fd file = any_file()) {
    all.push_back(std::move(file));
    ++brief;
  }
  EXPECT_EQ(brief, 16U);
}

TEST(DescriptorReserveTest, TellsOfADescriptorByItsNumber) {
  const TableOf table(512);
  EXPECT_FALSE(lies_in_reserve(Fd{}));
  EXPECT_FALSE(lies_in_reserve(any_file()));
  EXPECT_EQ(answer_of(outside_reserve(any_file())), succeeds);
  const Fd file = any_file();
  EXPECT_FALSE(lies_in_reserve(Fd{::fcntl(file.get(), F_DUPFD_CLOEXEC, 447)}));
  EXPECT_TRUE(lies_in_reserve(Fd{::fcntl(file.get(), F_DUPFD_CLOEXEC, 448)}));
  EXPECT_EQ(answer_of(outside_reserve(Fd{::fcntl(file.get(), F_DUPFD_CLOEXEC, 448)})),
            fails(ENFILE));
}

} // namespace
} // namespace vfio_shim::client
