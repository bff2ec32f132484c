// SPDX-License-Identifier: MIT
/// @file
/// Lines of the log.

#include "cli/log_format.hpp"

#include <memory>
#include <sstream>

#include <gtest/gtest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

namespace vfio_shim::cli {
namespace {

TEST(LogFormatTest, AMessageIsOneLineWhateverIsInIt) {
  std::ostringstream out;
  spdlog::logger logger("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out));
  logger.set_formatter(printable_lines("vfio-shim: %^%l%$: %v"));
  logger.warn("a client called \x1b[31mX\nvfio-shim: error: all is lost");
  EXPECT_EQ(out.str(),
            "vfio-shim: warning: a client called \\x1b[31mX\\x0avfio-shim: error: all is "
            "lost\n");
}

TEST(LogFormatTest, TellsASinkWhereItsColoursGo) {
  auto formatter = printable_lines("%^%l%$: %v")->clone();
  const spdlog::details::log_msg message("test", spdlog::level::warn, "\x1b");
  spdlog::memory_buf_t line;
  formatter->format(message, line);
  EXPECT_EQ(message.color_range_start, 0U);
  EXPECT_EQ(message.color_range_end, 7U);
}

} // namespace
} // namespace vfio_shim::cli
