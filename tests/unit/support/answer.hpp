// SPDX-License-Identifier: MIT
/// @file
/// What a call answered, for tests to compare and to print by name.
#pragma once

#include "vfio_shim/result.hpp"

#include <cstdint>
#include <ostream>
#include <string>
#include <type_traits>

namespace vfio_shim::test {

/// A value or an errno. Two errors are equal if their errnos are; where they came from is only
/// printed.
class Answer {
public:
  /// The answer that @p result is. A value that is not a number counts as 0.
  template <typename T>
  static Answer of(const Result<T> &result) {
    if (!result)
      return {-1, result.error()};
    if constexpr (std::is_arithmetic_v<T>)
      return {static_cast<std::int64_t>(*result), {}};
    else
      return {0, {}};
  }
  static Answer value(std::int64_t value) { return {value, {}}; }
  static Answer error(int code) { return {-1, Error{code, {}}}; }

  bool ok() const { return error_.code == 0; }
  std::int64_t value() const { return value_; }

  friend bool operator==(const Answer &one, const Answer &other) {
    return one.value_ == other.value_ && one.error_.code == other.error_.code;
  }
  friend std::ostream &operator<<(std::ostream &out, const Answer &answer) {
    if (answer.ok())
      return out << "answers " << answer.value_;
    out << "fails with " << errno_name(answer.error_.code);
    return answer.error_.where.empty() ? out : out << " (" << answer.error_.where << ")";
  }

private:
  Answer(std::int64_t value, Error error) : value_(value), error_(std::move(error)) {}

  std::int64_t value_;
  Error error_; ///< Code 0: none.
};

inline const Answer succeeds = Answer::value(0);
inline Answer answers(std::int64_t value) {
  return Answer::value(value);
}
inline Answer fails(int code) {
  return Answer::error(code);
}

/// Answer::of(), to be found by reading `EXPECT_EQ(answer_of(table.check_map(...)),
/// fails(EINVAL))`.
template <typename T>
Answer answer_of(const Result<T> &result) {
  return Answer::of(result);
}

} // namespace vfio_shim::test
