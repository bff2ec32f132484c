// SPDX-License-Identifier: MIT
#include "client/resident_descriptors.hpp"

#include "client/descriptor_reserve.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/process_handle.hpp"
#include "client/thread_state.hpp"

#include <algorithm>
#include <atomic>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

/// Each costs two descriptors of ours.
constexpr std::size_t most_residents = 8;
constexpr std::size_t most_abandoned = 64;

/// Whether descriptor @p number of the thread is the open file that @p file is.
Result<bool> is_same_file(Tid thread, ClientFd number, const Fd &file) {
  const long order =
      ::syscall(SYS_kcmp, ::getpid(), thread.value, KCMP_FILE, file.get(), number.value);
  if (order < 0 && errno != EBADF)
    return fail(errno == ENOSYS ? EOPNOTSUPP : errno, "kcmp (CONFIG_KCMP)");
  return order == 0;
}

/// Whether the thread is one of the process, which has not ended, or shares its memory.
bool is_of(Tid thread, const ResidentDescriptor &resident) {
  if (has_ended(resident.process))
    return false;
  if (thread.value == resident.pid.value ||
      ::syscall(SYS_kcmp, thread.value, resident.pid.value, KCMP_VM, 0, 0) == 0)
    return true;
  const auto pid = thread_group(thread); // Its first thread may have ended.
  return pid && *pid == resident.pid;
}

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<std::uint64_t> last_number = 0;

/// The first number to consider for a descriptor that stays: out of the way of programs that count
/// on low ones.
ClientFd lowest_number(Tid thread) {
  constexpr rlim_t usual_limit = 1024;
  rlimit limit{};
  if (::prlimit(thread.value, RLIMIT_NOFILE, nullptr, &limit) != 0)
    return ClientFd{0};
  return ClientFd{static_cast<int>(std::min(limit.rlim_cur, usual_limit) / 4 * 3)};
}

/// Takes away what is still there.
void remove_from_client(BorrowedThread &thread, const ResidentDescriptor &resident) {
  const ClientFd there = resident.there.file;
  if (is_same_file(thread.id(), there, resident.file.file()).value_or(false))
    (void)thread.system_call(SYS_close, {static_cast<std::uint64_t>(there.value), 0, 0, 0, 0, 0});
}

/// Moves the entries that @p is_meant says yes to out of @p list.
template <typename Predicate>
std::list<ResidentDescriptor> take_out(std::list<ResidentDescriptor> &list, Predicate is_meant) {
  std::list<ResidentDescriptor> taken;
  for (auto at = list.begin(); at != list.end();) {
    const auto next = std::next(at);
    if (is_meant(*at))
      taken.splice(taken.end(), list, at);
    at = next;
  }
  return taken;
}

void forget_the_dead(std::list<ResidentDescriptor> &list) {
  std::erase_if(list, [](const ResidentDescriptor &one) { return has_ended(one.process); });
}

} // namespace

std::optional<ResidentDescriptor>
adopt_resident(const ResidentEntry &entry, ClientBook::Record record, const ResidentBooks &books) {
  ResidentDescriptor adopted{.process = {},
                             .pid = entry.process,
                             .file = KeptFile::adopt(entry.kept, books.store),
                             .there = {.file = entry.there, .stays = true},
                             .number = entry.number,
                             .of = entry.of,
                             .note = Note(books.book, record)};
  auto process = open_process(entry.process);
  if (!process || !adopted.file)
    return std::nullopt; // Nor is it noted any longer.
  adopted.process = std::move(*process);
  std::uint64_t last = last_number;
  while (last < entry.number && !last_number.compare_exchange_weak(last, entry.number)) {
  }
  return adopted;
}

void AbandonedDescriptors::add(std::list<ResidentDescriptor> abandoned) {
  if (abandoned.empty())
    return;
  {
    const std::scoped_lock lock(mutex_);
    all_.splice(all_.end(), abandoned);
    while (all_.size() > most_abandoned)
      all_.pop_front();
  }
  look_after_();
}

bool AbandonedDescriptors::forget_ended() {
  const std::scoped_lock lock(mutex_);
  forget_the_dead(all_);
  return !all_.empty();
}

void AbandonedDescriptors::remove_from(BorrowedThread &thread, Pid process) {
  std::list<ResidentDescriptor> of_this_process;
  {
    const std::scoped_lock lock(mutex_);
    of_this_process =
        take_out(all_, [process](const ResidentDescriptor &one) { return one.pid == process; });
    forget_the_dead(all_);
  }
  for (const ResidentDescriptor &one : of_this_process)
    remove_from_client(thread, one);
}

ResidentDescriptors::~ResidentDescriptors() {
  abandoned_.add(std::move(residents_));
}

Result<std::optional<Foothold>> ResidentDescriptors::find(Tid thread, const Fd &file) const {
  for (const ResidentDescriptor &resident : residents_) {
    const auto there = is_same_file(thread, resident.there.file, file);
    if (!there)
      return pass_on(there);
    if (*there)
      return resident.there;
  }
  return std::nullopt;
}

const ResidentDescriptor *ResidentDescriptors::find_own(Tid thread) const {
  const auto found = std::ranges::find_if(residents_, [thread](const ResidentDescriptor &resident) {
    return is_same_file(thread, resident.there.file, resident.file.file()).value_or(false) &&
           is_of(thread, resident);
  });
  return found == residents_.end() ? nullptr : &*found;
}

Result<Foothold> ResidentDescriptors::install(BorrowedThread &thread, const Fd &handle,
                                              const Fd &file) {
  const auto pid = thread_group(thread.id());
  if (!pid)
    return pass_on(pid);
  const auto known = std::ranges::find_if(residents_, [&pid](const ResidentDescriptor &one) {
    return one.pid == *pid && !has_ended(one.process);
  });
  const std::uint64_t number = ++last_number;
  const std::uint64_t of = known == residents_.end() ? number : known->of;
  end_others_of(thread, *pid);

  auto process = open_process(*pid);
  if (!process)
    return pass_on(process);
  Fd copy = file.duplicate();
  if (!copy)
    return fail_for_want_of_descriptors("F_DUPFD_CLOEXEC");
  const auto installed = install_descriptor(thread, handle, file, lowest_number(thread.id()));
  if (!installed)
    return pass_on(installed);
  if (lies_in_reserve(copy))
    return Foothold{.file = *installed, .stays = false};
  auto kept = KeptFile::keep(std::move(copy), books_.store);
  if (!kept)
    return pass_on(kept);
  const auto record = books_.book.resident_made({.because_of = because_of_,
                                                 .process = *pid,
                                                 .there = *installed,
                                                 .kept = kept->number(),
                                                 .number = number,
                                                 .of = of});
  residents_.push_back({.process = std::move(*process),
                        .pid = *pid,
                        .file = std::move(*kept),
                        .there = {.file = *installed, .stays = true},
                        .number = number,
                        .of = of,
                        .note = Note(books_.book, record)});
  keep_few();
  return residents_.back().there;
}

/// The process has at most one: others are of an address space that has ended, or the client has
/// taken a part of them away.
void ResidentDescriptors::end_others_of(BorrowedThread &thread, Pid process) {
  for (const ResidentDescriptor &one :
       take_out(residents_, [process](const auto &one) { return one.pid == process; }))
    remove_from_client(thread, one);
  abandoned_.remove_from(thread, process);
}

void ResidentDescriptors::keep_few() {
  forget_the_dead(residents_);
  if (residents_.size() <= most_residents)
    return;
  std::list<ResidentDescriptor> oldest;
  oldest.splice(oldest.end(), residents_, residents_.begin());
  abandoned_.add(std::move(oldest));
}

} // namespace vfio_shim::client
