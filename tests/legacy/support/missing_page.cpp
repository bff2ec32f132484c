// SPDX-License-Identifier: MIT
#include "missing_page.h"

#include <stdexcept>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace legacy {
namespace {

Fd take_faults(const Memory &memory) {
  // Without O_NONBLOCK it cannot be polled.
  Fd faults{static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))};
  if (!faults.is_open())
    throw_errno("userfaultfd");
  uffdio_api api{};
  api.api = UFFD_API;
  faults.ioctl(UFFDIO_API, &api).or_throw("UFFDIO_API");
  if (::madvise(memory.at(page), page.count, MADV_DONTNEED) != 0)
    throw_errno("MADV_DONTNEED");
  uffdio_register range{};
  range.range.start = reinterpret_cast<std::uint64_t>(memory.at(page));
  range.range.len = page.count;
  range.mode = UFFDIO_REGISTER_MODE_MISSING;
  faults.ioctl(UFFDIO_REGISTER, &range).or_throw("UFFDIO_REGISTER");
  return faults;
}

} // namespace

MissingPage::MissingPage() : memory_{page * 2}, faults_{take_faults(memory_)} {}

void MissingPage::await_fault(std::chrono::seconds patience) const {
  pollfd poll{faults_.number(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(std::chrono::milliseconds{patience}.count())) != 1 ||
      (poll.revents & POLLIN) == 0)
    throw std::runtime_error{"nobody waits for the missing page"};
}

void MissingPage::fill() const {
  uffdio_zeropage zeros{};
  zeros.range.start = reinterpret_cast<std::uint64_t>(missing());
  zeros.range.len = page.count;
  faults_.ioctl(UFFDIO_ZEROPAGE, &zeros).or_throw("UFFDIO_ZEROPAGE");
}

} // namespace legacy
