// SPDX-License-Identifier: MIT
#include "hostiles.hpp"

#include "client/client.h"
#include "client/memory.h"
#include "client/seccomp.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <functional>

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.hpp"

namespace chaos {

using namespace legacy;
using namespace std::chrono_literals;

namespace {

/// Its arguments lie on a page that nobody ever provides: who reads them waits for ever.
class BlocksItsArguments final : public Hostile {
public:
  std::string_view name() const override { return "blocks-its-arguments"; }
  void do_harm(const Setting &setting, Random) const override {
    const legacy::Client client{setting.options.provider, setting.devices.front()};
    constexpr std::size_t pages = 4;
    std::byte *missing = memory_that_never_comes(pages);
    std::vector<std::thread> threads;
    for (const unsigned long request :
         {VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_GET_INFO})
      threads.emplace_back([&client, request, argument = missing + page.count * threads.size()] {
        client.container.fd().ioctl(request, argument);
      });
    threads.emplace_back([&client, argument = missing + page.count * threads.size()] {
      client.group.fd().ioctl(VFIO_GROUP_GET_DEVICE_FD, argument);
    });
    for (;;)
      ::pause();
  }

private:
  static std::byte *memory_that_never_comes(std::size_t pages) {
    const auto file =
        static_cast<int>(Answer::of(::syscall(SYS_userfaultfd, O_CLOEXEC)).or_throw("userfaultfd"));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    Answer::of(::ioctl(file, UFFDIO_API, &api)).or_throw("UFFDIO_API");
    void *memory = ::mmap(nullptr, page.count * pages, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uintptr_t>(memory), page.count * pages};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    Answer::of(::ioctl(file, UFFDIO_REGISTER, &range)).or_throw("UFFDIO_REGISTER");
    return static_cast<std::byte *>(memory);
  }
};

/// Denies itself sockets, and then rewrites the instruction with which one of its threads calls, in
/// the hope that its thread runs it while its filter is suspended.
class PatchesItsSystemCall final : public Hostile {
public:
  std::string_view name() const override { return "patches-its-system-call"; }
  void do_harm(const Setting &setting, Random random) const override {
    const legacy::Client client{setting.options.provider, setting.devices.front()};
    deny_oneself_sockets();
    const Code code;
    std::jthread patcher{[&] {
      for (;;) {
        code.patch(true);
        std::this_thread::sleep_for(random.time(0us, 300us));
        code.patch(false);
        std::this_thread::sleep_for(random.time(0us, 300us));
      }
    }};
    const Memory memory{page};
    const auto map = map_request({0x100000}, memory.data(), page);
    const auto unmap = unmap_request({0x100000}, page);
    for (;;) {
      code.ioctl(client.container.fd().number(), VFIO_IOMMU_MAP_DMA, &map);
      code.ioctl(client.container.fd().number(), VFIO_IOMMU_UNMAP_DMA, &unmap);
      if (has_a_socket())
        setting.board.places.at(static_cast<std::size_t>(setting.place))
            .complain("a client that is denied sockets by its filter has got one");
    }
  }

private:
  /// A function that makes the system call ioctl, and two bytes of which can be changed to a jump.
  class Code {
  public:
    Code() {
      void *memory = ::mmap(nullptr, page.count, PROT_READ | PROT_WRITE | PROT_EXEC,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      start_ = static_cast<std::byte *>(memory);
      // mov $SYS_ioctl, %eax; up to the call: nop
      put(0,
          {0xb8, 0x10, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90});
      put(call, {0x0f, 0x05, 0xc3}); // syscall; ret
      // mov $SYS_socket, %eax; mov $AF_INET, %edi; mov $SOCK_DGRAM, %esi; xor %edx, %edx; syscall;
      // jmp to the ret
      put(payload, {0xb8, 0x29, 0,
                    0,    0,    0xbf,
                    0x02, 0,    0,
                    0,    0xbe, 0x02,
                    0,    0,    0,
                    0x31, 0xd2, 0x0f,
                    0x05, 0xeb, static_cast<std::uint8_t>(call + 2 - (payload + 21))});
    }

    void patch(bool on) const {
      constexpr std::uint16_t system_call = 0x050f;
      constexpr auto jump = static_cast<std::uint16_t>(0xeb | (payload - (call + 2)) << 8);
      std::atomic_ref{*reinterpret_cast<std::uint16_t *>(start_ + call)} = on ? jump : system_call;
    }

    long ioctl(int file, unsigned long request, const void *argument) const {
      return reinterpret_cast<long (*)(int, unsigned long, const void *)>(start_)(file, request,
                                                                                  argument);
    }

  private:
    static constexpr int call = 16;
    static constexpr int payload = 64;

    void put(int at, std::initializer_list<std::uint8_t> bytes) const {
      std::memcpy(start_ + at, bytes.begin(), bytes.size());
    }

    std::byte *start_;
  };

  /// Not of the kind that the daemon uses for a moment.
  static bool has_a_socket() {
    for (int file = 0; file < 64; ++file) {
      int domain = 0;
      socklen_t size = sizeof(domain);
      if (::getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET)
        return true;
    }
    return false;
  }
};

/// Somebody without privileges who opens the container's node as often as he can.
class OpensWithoutEnd final : public Hostile {
public:
  std::string_view name() const override { return "opens-without-end"; }
  void do_harm(const Setting &setting, Random random) const override {
    constexpr uid_t somebody = 4242;
    constexpr std::size_t most = 3000;
    limit(RLIMIT_NOFILE, most + 1000);
    Answer::of(::setresgid(somebody, somebody, somebody)).or_throw("setresgid");
    Answer::of(::setresuid(somebody, somebody, somebody)).or_throw("setresuid");
    for (;;) {
      std::vector<Fd> files;
      for (std::size_t i = 0; i < most; ++i)
        files.emplace_back(::open(setting.options.provider.container.c_str(), O_RDWR | O_CLOEXEC));
      std::this_thread::sleep_for(random.time(0us, 50'000us));
    }
  }
};

/// Any ioctl with any argument, on all files that there are.
class AsksNonsense final : public Hostile {
public:
  std::string_view name() const override { return "asks-nonsense"; }
  void do_harm(const Setting &setting, Random random) const override {
    const legacy::Client client{setting.options.provider, setting.devices.front()};
    const Memory memory{page};
    for (;;) {
      for (std::size_t at = 0; at + 8 <= 64; at += 8) {
        const std::uint64_t word = random.chance(50) ? random.below(64) : random.next();
        std::memcpy(memory.data() + at, &word, sizeof(word));
      }
      const auto argument = reinterpret_cast<std::uintptr_t>(memory.data());
      const unsigned long request =
          random.chance(80)
              ? static_cast<unsigned long>(_IO(VFIO_TYPE, VFIO_BASE + random.below(22)))
              : random.next() & 0xffffffff;
      const Fd &file = random.chance(70) ? client.container.fd() : client.group.fd();
      const Answer answer = file.ioctl(request, random.chance(90) ? argument : random.next());
      // What it is given may be a descriptor.
      if (request == VFIO_GROUP_GET_DEVICE_FD && answer.ok())
        ::close(static_cast<int>(answer.value()));
      if (random.chance(5))
        std::this_thread::sleep_for(1ms);
    }
  }
};

const auto &every_hostile() {
  static const BlocksItsArguments blocks_its_arguments;
  static const PatchesItsSystemCall patches_its_system_call;
  static const OpensWithoutEnd opens_without_end;
  static const AsksNonsense asks_nonsense;
  static const std::array<const Hostile *, 4> all{&blocks_its_arguments, &patches_its_system_call,
                                                  &opens_without_end, &asks_nonsense};
  return all;
}

} // namespace

std::vector<std::string_view> hostile_names() {
  std::vector<std::string_view> names;
  for (const Hostile *hostile : every_hostile())
    names.push_back(hostile->name());
  return names;
}

std::vector<const Hostile *> chosen_hostiles(const Selection &selection) {
  std::vector<const Hostile *> chosen;
  for (const Hostile *hostile : every_hostile())
    if (selection.has(hostile->name()))
      chosen.push_back(hostile);
  return chosen;
}

} // namespace chaos
