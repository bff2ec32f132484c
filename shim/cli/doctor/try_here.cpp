// SPDX-License-Identifier: MIT
#include "abi/iommufd.hpp"
#include "backend/ioas.hpp"
#include "cli/doctor/trial.hpp"
#include "client/borrowed_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/errand_thread.hpp"
#include "client/process_handle.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/process_memory.hpp"

#include <array>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/prefix.hpp"
#include "daemon/private_daemon.hpp"

namespace vfio_shim::cli::doctor {

namespace {

constexpr Bytes page_size{4096};
constexpr Iova where_mapped{0x100000};
constexpr IovaRange mapped{where_mapped, Iova{where_mapped.value + page_size.value - 1}};

struct Pipe {
  Fd reader;
  Fd writer;

  static Result<Pipe> make() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
      return fail_errno("pipe");
    return Pipe{.reader = Fd{ends[0]}, .writer = Fd{ends[1]}};
  }
};

/// A process that waits until it is told to go on, says that it does, and ends. It has a page of
/// memory of its own.
class Guest {
public:
  static Result<std::unique_ptr<Guest>> start() {
    auto there = Pipe::make();
    if (!there)
      return pass_on(there);
    auto back = Pipe::make();
    if (!back)
      return pass_on(back);
    std::unique_ptr<Guest> guest(new Guest(std::move(there->writer), std::move(back->reader)));
    if (guest->page_ == MAP_FAILED)
      return fail_errno("mmap");
    guest->pid_ = ::fork();
    if (guest->pid_ < 0)
      return fail_errno("fork");
    if (guest->pid_ == 0)
      live(there->reader, back->writer, guest->page_);
    return guest;
  }

  Guest(const Guest &) = delete;
  Guest &operator=(const Guest &) = delete;
  ~Guest() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (page_ != MAP_FAILED)
      ::munmap(page_, page_size.value);
  }

  Pid pid() const { return Pid{pid_}; }
  Tid thread() const { return Tid{pid_}; }
  ClientAddr page() const { return ClientAddr{reinterpret_cast<std::uintptr_t>(page_)}; }

  /// Tells it to go on. @return ESRCH: it does not.
  Result<void> go_on() {
    char byte = 0;
    if (::write(tell_.get(), &byte, 1) != 1 || ::read(answer_.get(), &byte, 1) != 1)
      return fail(ESRCH, "the process does not go on");
    return {};
  }

private:
  Guest(Fd tell, Fd answer)
      : tell_(std::move(tell)),
        answer_(std::move(answer)),
        page_(::mmap(nullptr, page_size.value, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                     -1, 0)) {}

  [[noreturn]] static void live(const Fd &told, const Fd &answer, void *page) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    *static_cast<char *>(page) = 1;
    char byte = 0;
    const bool done = ::read(told.get(), &byte, 1) == 1 && ::write(answer.get(), &byte, 1) == 1;
    ::_exit(done ? EXIT_SUCCESS : EXIT_FAILURE);
  }

  Fd tell_;
  Fd answer_;
  void *page_;
  pid_t pid_ = 0;
};

/// Borrows a thread that is about to wait.
Result<std::unique_ptr<client::BorrowedThread>>
borrow(const Guest &guest, client::ClientAreas &areas, client::CallNotes &notes) {
  constexpr int patience = 100;
  for (int tries = 0;; ++tries) {
    auto halted = client::BorrowedThread::halt(guest.thread(), areas, notes);
    if (halted || halted.error().code != EAGAIN || tries == patience)
      return halted;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

Result<void> call_in(client::BorrowedThread &thread, const Guest &guest) {
  const auto answer = thread.system_call(SYS_getpid, {});
  if (!answer)
    return pass_on(answer);
  return *answer == guest.pid().value ? Result<void>{}
                                      : fail(EPROTO, "getpid answers for somebody else");
}

/// What is written to the copy in the client must arrive at ours.
Result<void> hand_over(client::BorrowedThread &thread, const Fd &process) {
  const Fd ours{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  if (!ours)
    return fail_errno("eventfd");
  const auto number = client::install_descriptor(thread, process, ours, ClientFd{0});
  if (!number)
    return pass_on(number);
  const auto theirs = client::copy_descriptor(process, *number);
  if (!theirs)
    return pass_on(theirs);
  eventfd_t value = 0;
  if (::eventfd_write(theirs->get(), 1) != 0 || ::eventfd_read(ours.get(), &value) != 0)
    return fail_errno("the descriptor in the client is another file");
  return {};
}

/// As a client's private memory is mapped: by a thread of ours in the client.
Result<void> map_page(client::BorrowedThread &thread, const Guest &guest, const Fd &iommufd,
                      const Ioas &ioas) {
  const auto errand = client::ErrandThread::send(thread);
  if (!errand)
    return pass_on(errand);
  const auto number = (*errand)->take(iommufd);
  if (!number)
    return pass_on(number);
  const abi::IommuIoasMap map{.flags = abi::ioas_map_fixed_iova | abi::ioas_map_readable |
                                       abi::ioas_map_writeable,
                              .ioas_id = ioas.id(),
                              .user_va = guest.page().value,
                              .length = page_size.value,
                              .iova = where_mapped.value};
  const ClientAddr scratch = (*errand)->scratch();
  VFIO_SHIM_TRY(write_memory((*errand)->id(), scratch, std::as_bytes(std::span(&map, 1))));
  const auto done =
      (*errand)->system_call(SYS_ioctl, {static_cast<std::uint64_t>(number->value),
                                         abi::iommu_ioas_map, scratch.value, 0, 0, 0});
  return done ? Result<void>{} : fail(done.error().code, "IOMMU_IOAS_MAP");
}

Result<void> map_file(Ioas &ioas) {
  Fd file{static_cast<int>(::syscall(SYS_memfd_create, "vfio-shim", MFD_CLOEXEC))};
  if (!file || ::ftruncate(file.get(), page_size.value) != 0)
    return fail_errno("memfd_create");
  const MemoryPart part{
      .start = {}, .size = page_size, .by_file = {.file = std::move(file), .offset = {}}};
  VFIO_SHIM_TRY(ioas.map_file(where_mapped, part, Access{.read = true, .write = true}));
  return ioas.unmap(mapped);
}

/// A daemon's container, without any group: nothing of the host is touched.
Result<void> serve_node() {
  daemon::DaemonOptions options;
  options.wait_for_devices = true;
  options.server.groups_to_serve = {.devices = {"none"}};
  const auto level = spdlog::get_level();
  spdlog::set_level(spdlog::level::err);
  const auto served = daemon::PrivateDaemon::start(options);
  spdlog::set_level(level);
  if (!served)
    return fail(served.error().code, served.error().where.empty() ? "the daemon's start: see above"
                                                                  : served.error().where);
  const auto node = daemon::container_node(served->prefix());
  const Fd container{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!container)
    return fail_errno(node);
  if (::ioctl(container.get(), VFIO_GET_API_VERSION) != VFIO_API_VERSION)
    return fail(EPROTO, "VFIO_GET_API_VERSION on " + node.string());
  return {};
}

/// Keeps what a step has made. @return What became of the step.
template <typename Made>
Result<void> keep(Result<Made> made, Made &kept) {
  if (!made)
    return pass_on(made);
  kept = std::move(*made);
  return {};
}

} // namespace

Trial try_here() {
  Trial trial;
  client::ClientAreas areas;
  client::CallNotes notes;
  std::unique_ptr<Guest> guest;
  Fd process;
  std::unique_ptr<client::BorrowedThread> thread;
  Fd iommufd;
  std::unique_ptr<Ioas> ioas;

  const bool started = trial.step("start a process", [&]() -> Result<void> {
    VFIO_SHIM_TRY(keep(Guest::start(), guest));
    return keep(client::open_process(guest->pid()), process);
  });
  const bool borrowed = trial.step_if(started, "borrow its thread",
                                      [&] { return keep(borrow(*guest, areas, notes), thread); });
  trial.step_if(borrowed, "make a system call there", [&] { return call_in(*thread, *guest); });
  trial.step_if(borrowed, "hand a descriptor over", [&] { return hand_over(*thread, process); });
  const bool opened = trial.step("make an address space", [&]() -> Result<void> {
    iommufd = Fd{::open("/dev/iommu", O_RDWR | O_CLOEXEC)};
    if (!iommufd)
      return fail_errno("/dev/iommu");
    return keep(Ioas::make(iommufd), ioas);
  });
  const bool has_page = trial.step_if(borrowed && opened, "map a page of the process",
                                      [&] { return map_page(*thread, *guest, iommufd, *ioas); });
  trial.step_if(has_page, "unmap it", [&] { return ioas->unmap(mapped); });
  trial.step_if(opened, "map shared memory by its file", [&] { return map_file(*ioas); });
  trial.step_if(borrowed, "give the thread back", [&] {
    thread->give_back_as_it_was();
    return guest->go_on();
  });
  trial.step("serve a container's node", serve_node);
  return trial;
}

} // namespace vfio_shim::cli::doctor
