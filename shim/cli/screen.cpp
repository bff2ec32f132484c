// SPDX-License-Identifier: MIT
#include "cli/screen.hpp"

#include <algorithm>
#include <sstream>

#include <curses.h>

namespace vfio_shim::cli {

namespace {

/// Table heads are in capitals.
bool is_heading(const std::string &line) {
  const auto first = line.find_first_not_of(' ');
  const auto is_capital = [](char letter) { return letter >= 'A' && letter <= 'Z'; };
  return first != std::string::npos && first + 1 < line.size() && is_capital(line[first]) &&
         is_capital(line[first + 1]) && line.find('_') == std::string::npos;
}

void draw_line(int row, const std::string &line, attr_t attributes) {
  attron(attributes);
  mvaddnstr(row, 0, line.c_str(), COLS);
  attroff(attributes);
}

} // namespace

std::unique_ptr<Screen> Screen::open() {
  if (newterm(nullptr, stdout, stdin) == nullptr)
    return nullptr;
  cbreak();
  noecho();
  keypad(stdscr, TRUE);
  curs_set(0);
  return std::unique_ptr<Screen>(new Screen);
}

Screen::~Screen() {
  endwin();
}

void Screen::show(const std::string &text, const std::string &footer) {
  text_ = text;
  footer_ = footer;
  draw();
}

void Screen::draw() {
  scrolled_ = std::clamp(scrolled_, 0, std::max(lines_in_text() - (LINES - 1), 0));
  erase();
  std::istringstream lines(text_);
  std::string line;
  for (int number = 0; std::getline(lines, line) && number - scrolled_ < LINES - 1; ++number) {
    if (number < scrolled_)
      continue;
    draw_line(number - scrolled_, line, number == 0 || is_heading(line) ? A_BOLD : A_NORMAL);
  }
  draw_line(LINES - 1, footer_, A_DIM);
  refresh();
}

Screen::Wish Screen::wait(std::chrono::milliseconds time) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + time;
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    timeout(static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(end - now).count()));
    switch (getch()) {
    case 'q':
    case 'Q':
      return Wish::quit;
    case KEY_DOWN:
      ++scrolled_;
      break;
    case KEY_UP:
      --scrolled_;
      break;
    case KEY_NPAGE:
      scrolled_ += LINES - 1;
      break;
    case KEY_PPAGE:
      scrolled_ -= LINES - 1;
      break;
    case ERR:
      return Wish::go_on; // Time over, or the terminal is gone: the next look shows.
    default:
      break;
    }
    draw();
  }
  return Wish::go_on;
}

int Screen::lines_in_text() const {
  return static_cast<int>(std::ranges::count(text_, '\n'));
}

} // namespace vfio_shim::cli
