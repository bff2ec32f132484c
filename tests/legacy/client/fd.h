// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <utility>

#include "answer.h"

namespace legacy {

/// Owns one file descriptor and closes it.
class Fd {
public:
  Fd() = default;
  explicit Fd(int number) : number_{number} {}
  Fd(Fd &&other) noexcept : number_{std::exchange(other.number_, -1)} {}
  Fd &operator=(Fd &&other) noexcept;
  ~Fd() { close(); }

  /// Opens `path` with `flags` and O_CLOEXEC. Throws std::system_error naming the path.
  static Fd open(const std::string &path, int flags);
  /// Opens `path` as above and closes it at once: succeeds, or the errno of open().
  static Answer try_open(const std::string &path, int flags);

  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }
  /// Closes now; does nothing when nothing is open.
  void close() noexcept;
  /// Gives the descriptor away without closing it.
  int release() { return std::exchange(number_, -1); }

  /// ioctl(2) with a pointer argument, which may be a bad one.
  Answer ioctl(unsigned long request, void *argument) const;
  Answer ioctl(unsigned long request, const void *argument) const;
  /// ioctl(2) with a number, or nothing, as its argument.
  Answer ioctl(unsigned long request, unsigned long argument = 0) const;

private:
  int number_ = -1;
};

} // namespace legacy
