// SPDX-License-Identifier: MIT
#include "cli/log_format.hpp"

#include "vfio_shim/printable.hpp"

#include <string_view>
#include <utility>

#include <spdlog/pattern_formatter.h>

namespace vfio_shim::cli {

namespace {

/// Has another formatter see an escaped message.
class EscapingFormatter final : public spdlog::formatter {
public:
  explicit EscapingFormatter(std::unique_ptr<spdlog::formatter> inner) : inner_(std::move(inner)) {}

  void format(const spdlog::details::log_msg &message, spdlog::memory_buf_t &line) override {
    const auto &payload = message.payload;
    const std::string text = escaped(std::string_view(payload.data(), payload.size()));
    spdlog::details::log_msg safe = message;
    safe.payload = text;
    inner_->format(safe, line);
    // Where the sink is to put its colours.
    message.color_range_start = safe.color_range_start;
    message.color_range_end = safe.color_range_end;
  }

  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<EscapingFormatter>(inner_->clone());
  }

private:
  std::unique_ptr<spdlog::formatter> inner_;
};

} // namespace

std::unique_ptr<spdlog::formatter> printable_lines(std::string pattern) {
  return std::make_unique<EscapingFormatter>(
      std::make_unique<spdlog::pattern_formatter>(std::move(pattern)));
}

} // namespace vfio_shim::cli
