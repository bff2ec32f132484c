// SPDX-License-Identifier: MIT
/// @file
/// Lines of --help.

#include "cli/help_format.hpp"

#include <gtest/gtest.h>

namespace vfio_shim::cli {
namespace {

TEST(HelpFormatTest, LeavesWhatFitsAsItIs) {
  const std::string text = "Usage: x\n\n  --a      b   c\n";
  EXPECT_EQ(wrapped(text, 17), text);
}

TEST(HelpFormatTest, ContinuesAnOptionInTheColumnOfItsText) {
  EXPECT_EQ(wrapped("  --a   one two three\n", 16), "  --a   one two\n        three\n");
}

TEST(HelpFormatTest, ContinuesPlainTextAtTheLeft) {
  EXPECT_EQ(wrapped("one two three", 8), "one two\nthree");
}

TEST(HelpFormatTest, ContinuesALongNameToTheRightOfIt) {
  EXPECT_EQ(wrapped("  --one Excludes: --two", 18), "  --one Excludes:\n    --two");
}

TEST(HelpFormatTest, ContinuesATextThatStandsAloneInItsColumn) {
  EXPECT_EQ(wrapped("        one two", 12), "        one\n        two");
}

TEST(HelpFormatTest, DoesNotBreakAWord) {
  EXPECT_EQ(wrapped("  --a  incomprehensibilities it is", 16),
            "  --a  incomprehensibilities\n       it is");
}

TEST(HelpFormatTest, DoesNotSqueezeTextIntoTheLastFewColumns) {
  EXPECT_EQ(wrapped("  --a         one two", 16), "  --a\n    one two");
}

} // namespace
} // namespace vfio_shim::cli
