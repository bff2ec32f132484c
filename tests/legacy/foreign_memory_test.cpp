// SPDX-License-Identifier: MIT
// A call changes no memory of its client's but its argument: what lies below a small stack belongs
// to somebody else.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include <sys/syscall.h>

#include "suite.h"

namespace {

using namespace legacy;

LEGACY_SUITE(ForeignMemory, AttachedSuite);

constexpr std::size_t red_zone = 128;

/// ioctl(fd, request, argument) with the stack pointer at `stack`. Returns -errno for a failure.
long ioctl_on_stack(std::byte *stack, int fd, unsigned long request, const void *argument) {
  long result = SYS_ioctl;
  register long arguments_fd asm("rdi") = fd;
  register unsigned long arguments_request asm("rsi") = request;
  register const void *arguments_pointer asm("rdx") = argument;
  register std::byte *new_stack asm("r8") = stack;
  asm volatile("mov %%rsp, %%r9\n\t"
               "mov %%r8, %%rsp\n\t"
               "syscall\n\t"
               "mov %%r9, %%rsp"
               : "+a"(result), "+r"(new_stack)
               : "r"(arguments_fd), "r"(arguments_request), "r"(arguments_pointer)
               : "rcx", "r9", "r11", "memory", "cc");
  return result;
}

/// Looks at memory all the time, in a thread of its own.
class Watch {
public:
  explicit Watch(std::span<const std::byte> memory)
      : memory_{memory}, as_it_was_(memory.begin(), memory.end()) {}
  Watch(const Watch &) = delete;
  ~Watch() { stop(); }

  void stop() {
    done_ = true;
    if (thread_.joinable())
      thread_.join();
  }
  bool saw_change() const { return changed_; }

private:
  void look() {
    while (!done_)
      if (std::memcmp(memory_.data(), as_it_was_.data(), memory_.size()) != 0)
        changed_ = true;
  }

  std::span<const std::byte> memory_;
  std::vector<std::byte> as_it_was_;
  std::atomic<bool> done_ = false, changed_ = false;
  std::thread thread_{[this] { look(); }};
};

TEST_P(ForeignMemory, BelowASmallStackIsLeftAlone) {
  const Memory room{page * 2};
  const Memory memory{page};
  std::byte *const stack = room.at(page);
  const std::span below = room.span({0}, page - Bytes{red_zone});
  std::ranges::fill(below, std::byte{0x5a});
  const auto map = map_request(some_iova, memory.data(), memory.size());
  Watch watch{below};
  for (int round = 0; round < 50; ++round) {
    ASSERT_EQ(ioctl_on_stack(stack, container().fd().number(), VFIO_IOMMU_MAP_DMA, &map), 0);
    ASSERT_EQ(container().unmap_all(), unmaps(page));
  }
  const std::string name = topology::lone_edus(1)[0].address;
  const Fd device{static_cast<int>(
      ioctl_on_stack(stack, client().group.fd().number(), VFIO_GROUP_GET_DEVICE_FD, name.c_str()))};
  EXPECT_TRUE(device.is_open());
  watch.stop();
  EXPECT_FALSE(watch.saw_change());
}

} // namespace
