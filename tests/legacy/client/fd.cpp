// SPDX-License-Identifier: MIT
#include "fd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace legacy {

Fd &Fd::operator=(Fd &&other) noexcept {
  if (this != &other) {
    close();
    number_ = std::exchange(other.number_, -1);
  }
  return *this;
}

Fd Fd::open(const std::string &path, int flags) {
  return Fd{static_cast<int>(
      Answer::of(::open(path.c_str(), flags | O_CLOEXEC, 0600)).or_throw("open " + path))};
}

Answer Fd::try_open(const std::string &path, int flags) {
  const Answer answer = Answer::of(::open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (!answer.ok())
    return answer;
  Fd closing{static_cast<int>(answer.value())};
  return succeeds;
}

void Fd::close() noexcept {
  if (is_open())
    ::close(release());
}

Answer Fd::ioctl(unsigned long request, void *argument) const {
  return Answer::of(::ioctl(number_, request, argument));
}

Answer Fd::ioctl(unsigned long request, const void *argument) const {
  return Answer::of(::ioctl(number_, request, argument));
}

Answer Fd::ioctl(unsigned long request, unsigned long argument) const {
  return Answer::of(::ioctl(number_, request, argument));
}

} // namespace legacy
