// SPDX-License-Identifier: MIT
#include "vfio_shim/own_process.hpp"

#include <array>
#include <cstring>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "support/answer.hpp"
#include "support/pages.hpp"

namespace vfio_shim {
namespace {

using test::address_of;
using test::answer_of;
using test::fails;
using test::page_size;
using test::Pages;
using test::succeeds;

class OwnProcessTest : public testing::Test {
protected:
  OwnProcess client{[](const Fd &) { return std::shared_ptr<Container>(); }};
  std::array<std::byte, 16> buffer{};

  test::Answer read(const void *from) { return answer_of(client.read(address_of(from), buffer)); }
  test::Answer write(const void *to) { return answer_of(client.write(address_of(to), buffer)); }
};

TEST_F(OwnProcessTest, ReadsAndWritesItsMemory) {
  const Pages pages;
  std::memset(pages.begin(), 7, 32);
  EXPECT_EQ(read(pages.begin()), succeeds);
  EXPECT_EQ(buffer.back(), std::byte{7});
  buffer.fill(std::byte{9});
  EXPECT_EQ(write(pages.begin() + 8), succeeds);
  EXPECT_EQ(pages.begin()[7], std::byte{7});
  EXPECT_EQ(pages.begin()[8], std::byte{9});
  EXPECT_EQ(pages.begin()[23], std::byte{9});
  EXPECT_EQ(pages.begin()[24], std::byte{7});
}

TEST_F(OwnProcessTest, RefusesPointersToNothing) {
  const Pages pages;
  EXPECT_EQ(read(nullptr), fails(EFAULT));
  EXPECT_EQ(write(nullptr), fails(EFAULT));
  EXPECT_EQ(read(pages.end()), fails(EFAULT));
  EXPECT_EQ(write(pages.end()), fails(EFAULT));
}

TEST_F(OwnProcessTest, RefusesWhatReachesIntoNothing) {
  const Pages pages;
  EXPECT_EQ(read(pages.end() - 15), fails(EFAULT));
  EXPECT_EQ(write(pages.end() - 15), fails(EFAULT));
  EXPECT_EQ(read(pages.end() - 16), succeeds);
  EXPECT_EQ(write(pages.end() - 16), succeeds);
  EXPECT_EQ(read(pages.begin() - 1), fails(EFAULT));
}

TEST_F(OwnProcessTest, RefusesToWriteToReadOnlyMemory) {
  const Pages pages;
  pages.protect(PROT_READ);
  EXPECT_EQ(read(pages.begin()), succeeds);
  EXPECT_EQ(write(pages.begin()), fails(EFAULT));
}

TEST_F(OwnProcessTest, RefusesAddressesOfTheKernel) {
  EXPECT_EQ(answer_of(client.read(ClientAddr{0xffffffff81000000}, buffer)), fails(EFAULT));
  EXPECT_EQ(answer_of(client.read(ClientAddr{UINT64_MAX}, buffer)), fails(EFAULT));
  EXPECT_EQ(answer_of(client.write(ClientAddr{0x8000000000000000}, buffer)), fails(EFAULT));
}

TEST_F(OwnProcessTest, TakesAnyAddressForNoBytes) {
  EXPECT_EQ(answer_of(client.read(ClientAddr{0}, {})), succeeds);
  EXPECT_EQ(answer_of(client.write(ClientAddr{1}, {})), succeeds);
}

TEST_F(OwnProcessTest, IsThisProcess) {
  EXPECT_EQ(client.pid(), Pid{::getpid()});
  EXPECT_NE(client.describe().find(std::to_string(::getpid())), std::string::npos);
  const auto process = client.process();
  EXPECT_EQ(answer_of(process), succeeds);
}

TEST_F(OwnProcessTest, CopiesItsDescriptors) {
  const Fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const auto copy = client.copy_of(ClientFd{file.get()});
  ASSERT_EQ(answer_of(copy), succeeds);
  EXPECT_NE(copy->get(), file.get());
  EXPECT_EQ(::fcntl(copy->get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(answer_of(client.copy_of(ClientFd{-1})), fails(EBADF));
  EXPECT_EQ(answer_of(client.copy_of(ClientFd{1 << 20})), fails(EBADF));
}

TEST_F(OwnProcessTest, HandsFilesOverToItself) {
  const Fd file{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  const auto number = client.hand_over(file);
  ASSERT_EQ(answer_of(number), succeeds);
  const Fd handed_over{number->value};
  EXPECT_NE(handed_over.get(), file.get());
  EXPECT_EQ(::fcntl(handed_over.get(), F_GETFD), FD_CLOEXEC);
}

TEST_F(OwnProcessTest, CannotHandOverNothing) {
  EXPECT_EQ(answer_of(client.hand_over(Fd{})), fails(EBADF));
}

TEST_F(OwnProcessTest, IssuesIoctlsItself) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const Fd reader{pipe[0]};
  const Fd writer{pipe[1]};
  const int number = 0;
  const auto argument = std::as_bytes(std::span(&number, 1));
  EXPECT_EQ(answer_of(client.ioctl_in_client(reader, Lending::openly, FIONREAD, argument)),
            succeeds);
  EXPECT_EQ(answer_of(client.ioctl_in_client(reader, Lending::openly, 0x3b85, argument)),
            fails(ENOTTY));
}

TEST_F(OwnProcessTest, TakesAllItsMemoryForOneKind) {
  const auto parts = client.memory_parts(ClientAddr{0x1000}, Bytes{0x5000}, {});
  ASSERT_EQ(answer_of(parts), succeeds);
  ASSERT_EQ(parts->size(), 1U);
  EXPECT_EQ(parts->front().start, ClientAddr{0x1000});
  EXPECT_EQ(parts->front().size, Bytes{0x5000});
  EXPECT_FALSE(parts->front().by_file.file);
}

} // namespace
} // namespace vfio_shim
