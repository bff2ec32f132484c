// SPDX-License-Identifier: MIT
/// @file
/// Files of ours that stay in clients from one borrow to the next.
#pragma once

#include "client/borrowed_thread.hpp"
#include "client/client_book.hpp"
#include "client/memory_files.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/file_store.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace vfio_shim::client {

/// Where a client has a file of ours.
struct Foothold {
  ClientFd file;
  bool stays; ///< No: we cannot remember it, and it must be taken away after its use.
};

/// What is written down in a ClientBook, as long as this lives.
class Note {
public:
  Note() = default;
  Note(ClientBook &book, ClientBook::Record record) : book_(&book), record_(record) {}
  Note(Note &&other) noexcept : book_(other.book_), record_(std::exchange(other.record_, 0)) {}
  Note &operator=(Note &&other) noexcept {
    std::swap(book_, other.book_);
    std::swap(record_, other.record_);
    return *this;
  }
  Note(const Note &) = delete;
  Note &operator=(const Note &) = delete;
  ~Note() {
    if (record_ != 0)
      book_->resident_gone(record_);
  }

private:
  ClientBook *book_ = nullptr;
  ClientBook::Record record_ = 0;
};

/// A client with what stays in it.
struct ResidentDescriptor {
  Fd process; ///< A pidfd, to know when it ends.
  Pid pid;
  KeptFile file; ///< To know it again.
  Foothold there;
  std::uint64_t number = 0; ///< Never two of it.
  std::uint64_t of = 0;     ///< The number of the first one that this process had.
  Note note{};
  /// The files of its address space, once they have been opened.
  std::shared_ptr<MemoryFiles> memory = std::make_shared<MemoryFiles>();
};

/// Where residents are written down and kept.
struct ResidentBooks {
  ClientBook &book;
  FileStore &store;
};

/// One that another process has installed. @return Nothing if there is no such process any more.
std::optional<ResidentDescriptor>
adopt_resident(const ResidentEntry &entry, ClientBook::Record record, const ResidentBooks &books);

/// What stayed behind in clients and is of no more use. Each goes when its client is borrowed the
/// next time, or ends. Thread-safe.
class AbandonedDescriptors {
public:
  /// @param look_after Has forget_ended() called for a while: what was added is often that of
  ///        processes which are about to end.
  explicit AbandonedDescriptors(std::function<void()> look_after = [] {})
      : look_after_(std::move(look_after)) {}

  /// The oldest are forgotten, and stay in their clients, if there are too many.
  void add(std::list<ResidentDescriptor> abandoned);

  /// Forgets those whose processes have ended. @return Whether there are others.
  bool forget_ended();

  /// Takes what is left in the borrowed thread's process away.
  void remove_from(BorrowedThread &thread, Pid process);

private:
  const std::function<void()> look_after_;
  std::mutex mutex_; ///< Guards all_.
  std::list<ResidentDescriptor> all_;
};

/// The files that stay in clients because of one open file of a node.
///
/// Carrying a descriptor into a client costs many more borrowed system calls than using one that is
/// there. So it stays: close-on-exec, and above the numbers that programs count with. The client
/// may close it, or put something else there: hence every use begins with a look, and nothing here
/// is more than a hint. Not thread-safe.
class ResidentDescriptors {
public:
  /// @param abandoned Takes over what is left in the end; outlives this, as the books do.
  /// @param because_of The open file.
  ResidentDescriptors(AbandonedDescriptors &abandoned, ResidentBooks books, FileNumber because_of)
      : abandoned_(abandoned), books_(books), because_of_(because_of) {}
  ResidentDescriptors(const ResidentDescriptors &) = delete;
  ResidentDescriptors &operator=(const ResidentDescriptors &) = delete;
  ~ResidentDescriptors();

  /// Takes over what another process has installed because of the same file.
  void adopt(ResidentDescriptor resident) { residents_.push_back(std::move(resident)); }

  /// Where the thread's process has @p file, if it stayed there or came with fork().
  /// @return EOPNOTSUPP: the kernel cannot compare files (CONFIG_KCMP).
  Result<std::optional<Foothold>> find(Tid thread, const Fd &file) const;

  /// What stayed in the thread's own address space. It has not come with fork(), and its process
  /// has not made an exec since.
  const ResidentDescriptor *find_own(Tid thread) const;

  /// Installs @p file, and takes away what was abandoned in the process.
  /// @param handle A pidfd of the thread, for copies of its descriptors.
  /// @return As install_descriptor(). ENFILE: we have no descriptor left at all. If there are few,
  ///         it does not stay.
  Result<Foothold> install(BorrowedThread &thread, const Fd &handle, const Fd &file);

private:
  void end_others_of(BorrowedThread &thread, Pid process);
  void keep_few();

  AbandonedDescriptors &abandoned_;
  const ResidentBooks books_;
  const FileNumber because_of_;
  std::list<ResidentDescriptor> residents_; ///< The latest last.
};

} // namespace vfio_shim::client
