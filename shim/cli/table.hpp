// SPDX-License-Identifier: MIT
/// @file
/// Text in columns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vfio_shim::cli {

/// Columns as wide as what stands in them.
class Table {
public:
  enum class Align : std::uint8_t { left, right };

  struct Column {
    std::string title;
    Align align;
    std::size_t width = 0;
  };

  explicit Table(std::vector<Column> columns);

  void add_row(std::vector<std::string> cells);

  /// A line of its own below the last row, from the second column on.
  void add_remark(std::string text);

  std::string text() const;

private:
  struct Row {
    std::vector<std::string> cells;
    std::string remark;
  };

  std::string indented(const std::string &remark) const;
  std::string aligned(const std::vector<std::string> &cells) const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

} // namespace vfio_shim::cli
