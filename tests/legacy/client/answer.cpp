// SPDX-License-Identifier: MIT
#include "answer.h"

#include <cerrno>
#include <cstring>
#include <ostream>
#include <system_error>

namespace legacy {

Answer Answer::of(long returned) {
  return returned == -1 ? error(errno) : value(returned);
}

long Answer::or_throw(std::string_view what) const {
  if (!ok())
    throw std::system_error{error_, std::generic_category(),
                            std::string{what} + ": " + errno_name(error_)};
  return value_;
}

std::string errno_name(int error_number) {
  const char *name = strerrorname_np(error_number);
  return name != nullptr ? name : std::to_string(error_number);
}

std::string to_string(const Answer &answer) {
  return answer.ok() ? "answers " + std::to_string(answer.value())
                     : "fails with " + errno_name(answer.error());
}

std::ostream &operator<<(std::ostream &out, const Answer &answer) {
  return out << to_string(answer);
}

void throw_errno(std::string_view what) {
  const int error = errno;
  Answer::error(error).or_throw(what);
  throw std::logic_error{std::string{what} + ": failed without an errno"};
}

} // namespace legacy
