// SPDX-License-Identifier: MIT
/// @file
/// An owned file descriptor.
#pragma once

#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace vfio_shim {

/// Owns one file descriptor of this process and closes it when it goes out of scope.
class Fd {
public:
  Fd() = default;
  explicit Fd(int number) noexcept : number_(number) {}
  Fd(Fd &&other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Fd &operator=(Fd &&other) noexcept {
    if (this != &other)
      reset(std::exchange(other.number_, -1));
    return *this;
  }
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  ~Fd() { reset(); }

  /// The descriptor's number, or -1 if nothing is owned.
  int get() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }

  /// Another descriptor of the same open file, close-on-exec; nothing (and errno) if there are too
  /// many.
  Fd duplicate() const noexcept { return Fd{::fcntl(number_, F_DUPFD_CLOEXEC, 0)}; }

  /// Gives the descriptor up without closing it.
  int release() noexcept { return std::exchange(number_, -1); }

  /// Closes what is owned and owns @p number instead.
  void reset(int number = -1) noexcept {
    // close() is never retried: on Linux the descriptor is gone even after EINTR.
    if (number_ >= 0)
      ::close(number_);
    number_ = number;
  }

private:
  int number_ = -1;
};

} // namespace vfio_shim
