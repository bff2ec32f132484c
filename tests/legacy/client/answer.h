// SPDX-License-Identifier: MIT
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>

namespace legacy {

/// What one system call answered: the value it returned, or the errno it failed with.
///
/// Tests compare whole answers, so that a failure prints both sides by name:
/// `EXPECT_EQ(container.map(...), fails(EEXIST))`.
class Answer {
public:
  /// The answer of a system call that has just returned `returned`; reads errno when it is -1.
  static Answer of(long returned);

  static constexpr Answer value(long value) { return Answer{value, 0}; }
  static constexpr Answer error(int error_number) { return Answer{-1, error_number}; }

  constexpr bool ok() const { return error_ == 0; }
  /// The errno, 0 when the call succeeded.
  constexpr int error() const { return error_; }
  /// The value returned; -1 when the call failed.
  constexpr long value() const { return value_; }

  /// Throws std::system_error, naming `what`, unless the call succeeded. Returns the value.
  long or_throw(std::string_view what) const;

  friend constexpr bool operator==(const Answer &, const Answer &) = default;

private:
  constexpr Answer(long value, int error) : value_{value}, error_{error} {}

  long value_;
  int error_;
};

/// The call succeeded and returned 0.
inline constexpr Answer succeeds = Answer::value(0);
/// The call returned `value`.
constexpr Answer answers(long value) {
  return Answer::value(value);
}
/// The call failed with `error_number`.
constexpr Answer fails(int error_number) {
  return Answer::error(error_number);
}

/// "EINVAL" for EINVAL; the number for an errno without a name.
std::string errno_name(int error_number);

std::string to_string(const Answer &answer);
std::ostream &operator<<(std::ostream &out, const Answer &answer);

/// Throws std::system_error for the current errno, naming `what`.
[[noreturn]] void throw_errno(std::string_view what);

} // namespace legacy
