// SPDX-License-Identifier: MIT
#include "board.hpp"

#include "client/answer.h"

#include <algorithm>
#include <chrono>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

namespace chaos {

namespace {

/// High, so that no client has it by chance, and below every limit.
constexpr int board_descriptor = 900;

Board *map_board() {
  void *memory =
      ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, board_descriptor, 0);
  if (memory == MAP_FAILED)
    legacy::throw_errno("mmap of the board");
  return static_cast<Board *>(memory);
}

template <std::size_t size>
void put(std::array<char, size> &where, std::string_view what) {
  const std::size_t length = std::min(what.size(), size - 1);
  std::copy_n(what.data(), length, where.data());
  where[length] = '\0';
}

std::int64_t now() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

} // namespace

void Desk::begin(std::string_view what) {
  put(answered, "");
  put(doing, what);
  ++steps;
  began = now();
}

void Desk::end(std::string_view answer) {
  began = 0;
  put(answered, answer);
}

void Place::complain(std::string_view what) {
  if (complaint[0] != '\0')
    return;
  put(complaint, what);
  has_complaint = true;
}

Board &Board::make() {
  const int file = ::memfd_create("chaos-board", 0);
  if (file < 0 || ::ftruncate(file, sizeof(Board)) != 0 || ::dup2(file, board_descriptor) < 0)
    legacy::throw_errno("make the board");
  ::close(file);
  return *new (map_board()) Board{};
}

Board &Board::inherit() {
  return *map_board();
}

void Board::clear() {
  phase = Phase::running;
  for (Place &place : places) {
    place.~Place();
    new (&place) Place{};
  }
}

} // namespace chaos
