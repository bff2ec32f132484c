// SPDX-License-Identifier: MIT
#include "cli/table.hpp"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

namespace vfio_shim::cli {

namespace {
constexpr std::string_view gap = "  ";
} // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {
  std::vector<std::string> titles;
  for (const Column &column : columns_)
    titles.push_back(column.title);
  add_row(std::move(titles));
}

void Table::add_row(std::vector<std::string> cells) {
  for (std::size_t index = 0; index < columns_.size(); ++index)
    columns_[index].width = std::max(columns_[index].width, cells[index].size());
  rows_.push_back({.cells = std::move(cells), .remark = {}});
}

void Table::add_remark(std::string text) {
  rows_.push_back({.cells = {}, .remark = std::move(text)});
}

std::string Table::text() const {
  std::string lines;
  for (const Row &row : rows_) {
    std::string line = row.cells.empty() ? indented(row.remark) : aligned(row.cells);
    line.erase(line.find_last_not_of(' ') + 1);
    lines += line + '\n';
  }
  return lines;
}

std::string Table::indented(const std::string &remark) const {
  return fmt::format("{:{}}{}{}", "", columns_.front().width, gap, remark);
}

std::string Table::aligned(const std::vector<std::string> &cells) const {
  std::string line;
  for (std::size_t index = 0; index < columns_.size(); ++index) {
    const auto &[title, align, width] = columns_[index];
    line += align == Align::left ? fmt::format("{:<{}}", cells[index], width)
                                 : fmt::format("{:>{}}", cells[index], width);
    line += gap;
  }
  return line;
}

} // namespace vfio_shim::cli
