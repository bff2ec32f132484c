#include "client/resident_descriptors.hpp"

#include "client/descriptor_transfer.hpp"
#include "client/thread_state.hpp"

#include <algorithm>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

/// Each costs two descriptors of ours.
constexpr std::size_t most_residents = 8;

/// Whether descriptor @p number of the thread is the open file that @p file is.
Result<bool> is_same_file(Tid thread, ClientFd number, const Fd &file) {
  const long order =
      ::syscall(SYS_kcmp, ::getpid(), thread.value, KCMP_FILE, file.get(), number.value);
  if (order < 0 && errno != EBADF)
    return fail(errno == ENOSYS ? EOPNOTSUPP : errno, "kcmp (CONFIG_KCMP)");
  return order == 0;
}

/// The first number to consider for a descriptor that stays: out of the way of programs that count
/// on low ones.
ClientFd lowest_number(Tid thread) {
  constexpr rlim_t usual_limit = 1024;
  rlimit limit{};
  if (::prlimit(thread.value, RLIMIT_NOFILE, nullptr, &limit) != 0)
    return ClientFd{0};
  return ClientFd{static_cast<int>(std::min(limit.rlim_cur, usual_limit) / 4 * 3)};
}

} // namespace

void AbandonedDescriptors::add(std::list<ResidentDescriptor> abandoned) {
  const std::scoped_lock lock(mutex_);
  all_.splice(all_.end(), abandoned);
  std::erase_if(all_,
                [](const ResidentDescriptor &resident) { return has_ended(resident.process); });
}

void AbandonedDescriptors::close_in(BorrowedThread &thread, Pid process) {
  std::list<ResidentDescriptor> of_this_process;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = all_.begin(); at != all_.end();) {
      const auto next = std::next(at);
      if (at->pid == process)
        of_this_process.splice(of_this_process.end(), all_, at);
      at = next;
    }
  }
  for (const ResidentDescriptor &resident : of_this_process)
    if (is_same_file(thread.id(), resident.number, resident.file).value_or(false))
      (void)thread.system_call(SYS_close,
                               {static_cast<std::uint64_t>(resident.number.value), 0, 0, 0, 0, 0});
}

ResidentDescriptors::~ResidentDescriptors() {
  abandoned_.add(std::move(residents_));
}

Result<std::optional<ClientFd>> ResidentDescriptors::find(Tid thread, const Fd &file) const {
  for (const ResidentDescriptor &resident : residents_) {
    const auto there = is_same_file(thread, resident.number, file);
    if (!there)
      return pass_on(there);
    if (*there)
      return resident.number;
  }
  return std::nullopt;
}

Result<ClientFd> ResidentDescriptors::install(BorrowedThread &thread, const Fd &process,
                                              const Fd &file) {
  const auto pid = thread_group(thread.id());
  if (!pid)
    return pass_on(pid);
  abandoned_.close_in(thread, *pid);

  ResidentDescriptor resident{
      .process = process.duplicate(), .pid = *pid, .file = file.duplicate(), .number = {}};
  if (!resident.process || !resident.file)
    return fail_errno("F_DUPFD_CLOEXEC");
  const auto number = install_descriptor(thread, process, file, lowest_number(thread.id()));
  if (!number)
    return pass_on(number);
  resident.number = *number;
  residents_.push_back(std::move(resident));
  if (residents_.size() > most_residents) {
    std::list<ResidentDescriptor> oldest;
    oldest.splice(oldest.end(), residents_, residents_.begin());
    abandoned_.add(std::move(oldest));
  }
  return *number;
}

} // namespace vfio_shim::client
