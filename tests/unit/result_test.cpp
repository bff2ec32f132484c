// SPDX-License-Identifier: MIT
#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <utility>

#include <fcntl.h>
#include <gtest/gtest.h>

namespace vfio_shim {
namespace {

Result<int> passed_on(const Result<void> &first) {
  VFIO_SHIM_TRY(first);
  return 7;
}

bool is_open(int number) {
  return ::fcntl(number, F_GETFD) != -1;
}

TEST(ErrnoName, IsTheNameThatEngineersSearchFor) {
  EXPECT_EQ(errno_name(EFAULT), "EFAULT");
  EXPECT_EQ(errno_name(EBADFD), "EBADFD");
}

TEST(ErrnoName, IsANumberForWhatHasNoName) {
  EXPECT_EQ(errno_name(524), "errno 524");
}

TEST(Error, DescribesItselfForPeople) {
  const Error error{EFAULT, "IOMMU_IOAS_MAP"};
  EXPECT_EQ(error.describe(), "EFAULT (Bad address) at IOMMU_IOAS_MAP");
}

TEST(Error, DescribesAnErrnoWithoutAName) {
  // The kernel lets ENOTSUPP, 524, out of some ioctls.
  std::string description;
  EXPECT_NO_THROW(description = (Error{524, "an ioctl"}.describe()));
  EXPECT_NE(description.find("errno 524"), std::string::npos) << description;
}

TEST(Result, CarriesTheCallingThreadsErrno) {
  errno = ENOSPC;
  const Result<void> failed = fail_errno("writing");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ENOSPC);
  EXPECT_EQ(failed.error().where, "writing");
}

TEST(Result, IsPassedOnAsAnotherKind) {
  EXPECT_EQ(passed_on({}).value(), 7);
  const auto failed = passed_on(fail(EBUSY, "inner"));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, EBUSY);
  EXPECT_EQ(failed.error().where, "inner");
}

TEST(Fd, ClosesWhatItOwns) {
  int number = -1;
  {
    const Fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    number = file.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, MovesItsDescriptor) {
  Fd one{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int number = one.get();
  Fd other{std::move(one)};
  EXPECT_EQ(other.get(), number);
  Fd third{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int replaced = third.get();
  third = std::move(other);
  EXPECT_EQ(third.get(), number);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_TRUE(is_open(number));
}

TEST(Fd, GivesItsDescriptorUp) {
  Fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const int number = file.release();
  EXPECT_FALSE(file);
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

TEST(IovaRange, PrintsBothEnds) {
  EXPECT_EQ(fmt::format("{}", IovaRange{Iova{0x1000}, Iova{UINT64_MAX}}),
            "[0x1000, 0xffffffffffffffff]");
}

} // namespace
} // namespace vfio_shim
