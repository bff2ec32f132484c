// SPDX-License-Identifier: MIT
#include "client/express.hpp"

#include "client/borrowed_thread.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/process_handle.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

namespace fs = std::filesystem;

/// The names of the entries that are numbers.
std::vector<int> numbers_in(const fs::path &directory) {
  std::vector<int> numbers;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    int number = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), number).ec == std::errc{})
      numbers.push_back(number);
  }
  return numbers;
}

/// Tells if the thread waits in a system call that can be interrupted at once. In others it may not
/// stop: in a call to us, for example.
bool waits_idly(Tid thread) {
  constexpr std::array<long, 20> idle{
      SYS_futex,           SYS_poll,        SYS_ppoll,           SYS_select,    SYS_pselect6,
      SYS_epoll_wait,      SYS_epoll_pwait, SYS_epoll_pwait2,    SYS_nanosleep, SYS_clock_nanosleep,
      SYS_restart_syscall, SYS_pause,       SYS_rt_sigsuspend,   SYS_wait4,     SYS_waitid,
      SYS_accept,          SYS_accept4,     SYS_rt_sigtimedwait, SYS_recvmsg,   SYS_recvfrom};
  std::ifstream file(fmt::format("/proc/{}/syscall", thread.value));
  long number = -1; // "running"
  return (file >> number) && std::ranges::find(idle, number) != idle.end();
}

/// A thread of the process that waits in a system call.
Result<std::unique_ptr<BorrowedThread>> halt_any(Pid process, ClientAreas &areas,
                                                 CallNotes &notes) {
  Result<std::unique_ptr<BorrowedThread>> halted = fail(EAGAIN, "no thread waits for anything");
  for (const int thread : numbers_in(fmt::format("/proc/{}/task", process.value))) {
    if (!waits_idly(Tid{thread}))
      continue;
    halted = BorrowedThread::halt(Tid{thread}, areas, notes);
    if (halted)
      break;
  }
  return halted;
}

} // namespace

bool is_iommufd(const Fd &file) {
  struct stat opened {};
  struct stat node {};
  return ::fstat(file.get(), &opened) == 0 && S_ISCHR(opened.st_mode) &&
         ::stat("/dev/iommu", &node) == 0 && S_ISCHR(node.st_mode) &&
         node.st_rdev == opened.st_rdev;
}

Result<Fd> file_of_container(const fs::path &node, const Fd &iommufd) {
  Fd file{::open(node.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file || ::ioctl(file.get(), stand_for_iommufd, iommufd.get()) != 0)
    return fail_errno(node);
  return file;
}

Result<std::vector<ClientFd>> end_express(const fs::path &node, Pid process) {
  const auto handle = open_process(process);
  if (!handle)
    return pass_on(handle);
  std::vector<ClientFd> put_back;
  for (const int number : numbers_in(fmt::format("/proc/{}/fd", process.value))) {
    const auto there = copy_descriptor(*handle, ClientFd{number});
    if (!there || !is_iommufd(*there))
      continue;
    const auto file = file_of_container(node, *there);
    if (!file && file.error().code == ENOENT)
      continue; // The program's own.
    if (!file)
      return pass_on(file);
    ClientAreas areas;
    CallNotes notes;
    const auto thread = halt_any(process, areas, notes);
    if (!thread)
      return pass_on(thread);
    const auto done = replace_descriptor(**thread, *handle, *file, ClientFd{number});
    (*thread)->give_back_as_it_was();
    if (!done)
      return pass_on(done);
    put_back.push_back(ClientFd{number});
  }
  return put_back;
}

} // namespace vfio_shim::client
