// SPDX-License-Identifier: MIT
/// @file
/// The whole terminal, for text that changes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace vfio_shim::cli {

/// Takes the terminal over until it is destroyed.
class Screen {
public:
  /// nullptr if nothing is known of the terminal.
  static std::unique_ptr<Screen> open();

  Screen(const Screen &) = delete;
  Screen &operator=(const Screen &) = delete;
  ~Screen();

  /// Shows @p text from where the user has scrolled to, and @p footer in the last line. Lines that
  /// begin with a capital letter are headings.
  void show(const std::string &text, const std::string &footer);

  enum class Wish : std::uint8_t { go_on, quit };
  /// Waits for a key, or until @p time is over. Follows the scroll keys at once.
  Wish wait(std::chrono::milliseconds time);

private:
  Screen() = default;

  void draw();
  int lines_in_text() const;

  std::string text_;
  std::string footer_;
  int scrolled_ = 0;
};

} // namespace vfio_shim::cli
