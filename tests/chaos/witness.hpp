// SPDX-License-Identifier: MIT
/// @file
/// How an innocent client makes its calls: it says what it does, and judges the answer.
#pragma once

#include "client/answer.h"

#include <array>
#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "board.hpp"

namespace chaos {

/// Something was not as it must be.
struct Complaint : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The client's device is being taken away, or it could not be set up for an accepted reason: no
/// failure, but the end of this client.
struct GivesUp {};

/// Turns what a step without which nothing makes sense threw into its answer.
template <typename Step>
legacy::Answer answer_of(Step step) {
  try {
    step();
    return legacy::succeeds;
  } catch (const std::system_error &error) {
    return legacy::fails(error.code().value());
  }
}

/// One thread of an innocent client, before the board.
class Witness {
public:
  Witness(Board &board, int place, int desk)
      : board_(board),
        place_(board.places.at(static_cast<std::size_t>(place))),
        desk_(place_.desks.at(static_cast<std::size_t>(desk))) {}

  /// Makes a call that must answer @p expected, or what a disturbance under way excuses. Returns
  /// the answer. Throws Complaint; and GivesUp if the device is being taken.
  template <typename Call>
  legacy::Answer must(CallKind kind, const std::string &doing, legacy::Answer expected, Call call) {
    const Glances before = begin(doing);
    const legacy::Answer answer = call();
    end(answer);
    if (answer != expected)
      judge(kind, before, answer, "not " + legacy::to_string(expected));
    return answer;
  }

  /// As must(), made again and again while it is excused.
  template <typename Call>
  void must_in_the_end(CallKind kind, const std::string &doing, legacy::Answer expected,
                       Call call) {
    const auto give_up = std::chrono::steady_clock::now() + excuses_end_within;
    while (must(kind, doing, expected, call) != expected) {
      require(std::chrono::steady_clock::now() < give_up, doing + " is excused for too long");
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
  }

  /// As must(), for a call that may answer any value.
  template <typename Call>
  legacy::Answer must_succeed(CallKind kind, const std::string &doing, Call call) {
    const Glances before = begin(doing);
    const legacy::Answer answer = call();
    end(answer);
    if (!answer.ok())
      judge(kind, before, answer, "not success");
    return answer;
  }

  /// Says that something is done that is no call of VFIO's.
  void say(const std::string &doing) { begin(doing); }
  /// Throws Complaint unless it @p holds.
  void require(bool holds, const std::string &what) const;

  Board &board() const { return board_; }
  Place &place() const { return place_; }

private:
  static constexpr std::chrono::seconds excuses_end_within{30};

  struct Glances {
    std::array<Window::Glance, excuse_count> of_place, of_all;
  };

  Glances begin(const std::string &doing);
  void end(legacy::Answer answer);
  void judge(CallKind kind, const Glances &before, legacy::Answer answer,
             const std::string &instead) const;

  Board &board_;
  Place &place_;
  Desk &desk_;
};

} // namespace chaos
