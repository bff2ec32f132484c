#include "slow_page.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace legacy {
namespace {

void require(bool done, const char *what) {
  if (!done)
    throw std::system_error{errno, std::generic_category(), what};
}

} // namespace

SlowPage::SlowPage()
    : memory_{page},
      userfaults_{static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))} {
  require(userfaults_.is_open(), "userfaultfd");
  empty();
  uffdio_api api{};
  api.api = UFFD_API;
  require(::ioctl(userfaults_.number(), UFFDIO_API, &api) == 0, "UFFDIO_API");
  uffdio_register all{};
  all.range = {.start = reinterpret_cast<std::uintptr_t>(data()), .len = page.count};
  all.mode = UFFDIO_REGISTER_MODE_MISSING;
  require(::ioctl(userfaults_.number(), UFFDIO_REGISTER, &all) == 0, "UFFDIO_REGISTER");
}

bool SlowPage::is_awaited(std::chrono::milliseconds patience) const {
  pollfd poll{userfaults_.number(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(patience.count())) != 1)
    return false;
  uffd_msg message{};
  return ::read(userfaults_.number(), &message, sizeof(message)) == sizeof(message);
}

void SlowPage::fill() const {
  uffdio_zeropage zeros{};
  zeros.range = {.start = reinterpret_cast<std::uintptr_t>(data()), .len = page.count};
  require(::ioctl(userfaults_.number(), UFFDIO_ZEROPAGE, &zeros) == 0 || errno == EEXIST,
          "UFFDIO_ZEROPAGE");
}

void SlowPage::empty() const {
  require(::madvise(data(), page.count, MADV_DONTNEED) == 0, "MADV_DONTNEED");
}

} // namespace legacy
