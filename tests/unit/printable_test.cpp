// SPDX-License-Identifier: MIT
/// @file
/// Foreign text in messages.

#include "vfio_shim/command_name.hpp"
#include "vfio_shim/printable.hpp"

#include <fstream>

#include <gtest/gtest.h>

#include "support/fake_sysfs.hpp"

namespace vfio_shim {
namespace {

TEST(PrintableTest, LeavesPrintableAsciiAlone) {
  EXPECT_EQ(printable(" az~"), " az~");
  EXPECT_EQ(escaped(" az~\\"), " az~\\");
}

TEST(PrintableTest, LetsNothingElseThrough) {
  EXPECT_EQ(printable("\x1b[31mX\n\x7f\xc2\x9b"), "?[31mX????");
  EXPECT_EQ(escaped("\x1b[31mX\n\x7f\xc2\x9b"), "\\x1b[31mX\\x0a\\x7f\\xc2\\x9b");
}

TEST(PrintableTest, QuotesNoMoreThanANamesWorth) {
  EXPECT_EQ(quoted_name("0000:00:02.0"), "'0000:00:02.0'");
  EXPECT_EQ(quoted_name(std::string(64, 'x')), '\'' + std::string(64, 'x') + '\'');
  EXPECT_EQ(quoted_name(std::string(4000, 'x')), '\'' + std::string(64, 'x') + "...'");
}

TEST(CommandNameTest, IsPrintableWhateverAProcessCallsItself) {
  const test::FakeSysfs files;
  std::filesystem::create_directories(files.root() / "proc/42");
  std::ofstream(files.root() / "proc/42/comm") << "\x1b[31mX\n\n";
  EXPECT_EQ(command_name(Pid{42}, files.root() / "proc"), "?[31mX?");
  EXPECT_EQ(command_name(Pid{43}, files.root() / "proc"), "");
}

} // namespace
} // namespace vfio_shim
