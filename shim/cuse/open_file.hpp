// SPDX-License-Identifier: MIT
/// @file
/// What a node keeps for each of its open files.
#pragma once

#include "client/left_in_clients.hpp"
#include "cuse/call.hpp"
#include "cuse/call_queue.hpp"
#include "cuse/open_files.hpp"
#include "observe/observed_file.hpp"

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// An open file of a node: the container or group behind it, and its calls, one at a time.
/// @tparam Served Container or Group.
template <typename Served>
struct OpenFile {
  /// The node keeps one of these from open to release; calls under way keep their own.
  using Files = OpenFiles<OpenFile>;
  using Handle = typename Files::Handle;

  OpenFile(std::shared_ptr<Served> what, std::shared_ptr<observe::ObservedFile> file,
           client::LeftInClients &left)
      : served(std::move(what)),
        observed(std::move(file)),
        residents(left.abandoned, left.books, observed->number()) {}

  /// The number that a message of the kernel brings.
  static FileNumber number_of(const fuse_file_info &file) { return FileNumber{file.fh}; }

  /// Answers an open with @p opened, which is kept in @p files by its number.
  /// @return Whether there will be a release: a client that was killed while it opened gets no
  ///         file, and nothing is kept.
  static bool give(Files &files, Handle opened, fuse_req_t request, fuse_file_info &file) {
    const FileNumber number = opened->observed->number();
    file.fh = number.value;
    files.add(number, std::move(opened)); // The client may call before we know that it can.
    if (fuse_reply_open(request, &file) == 0)
      return true;
    files.take(number);
    return false;
  }

  /// Serves an ioctl on @p opened, after those that came before it.
  static void serve(const Handle &opened, fuse_req_t request, unsigned int command,
                    std::uint64_t argument, client::Surroundings surroundings, CallBook &book,
                    observe::Observer &observer) {
    if (const auto watched = CallerWatch::current())
      surroundings.hold = watched->hold;
    opened->queue.submit(
        std::make_unique<Call>(request, command, argument, opened->residents,
                               std::move(surroundings), observer, opened->observed, book),
        [served = opened->current()](Call &call) {
          call.serve(Served::call_name(call.command()), [served](Call &current) {
            return served->call(current.client(), current.command(), current.argument());
          });
        });
  }

  /// What calls on the file are for: itself, or what it stands for as long as that is there.
  std::shared_ptr<Served> current() const {
    const std::scoped_lock lock(other_mutex_);
    auto other = other_.lock();
    return other ? other : served;
  }
  void stand_for(const std::shared_ptr<Served> &other) {
    const std::scoped_lock lock(other_mutex_);
    other_ = other;
  }

  std::shared_ptr<Served> served;
  std::shared_ptr<observe::ObservedFile> observed;
  client::ResidentDescriptors residents;
  CallQueue queue;

private:
  mutable std::mutex other_mutex_; ///< Guards other_.
  std::weak_ptr<Served> other_;
};

} // namespace vfio_shim::cuse
