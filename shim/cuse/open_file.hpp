/// @file
/// What a node keeps for each of its open files.
#pragma once

#include "client/resident_descriptors.hpp"
#include "cuse/call.hpp"
#include "cuse/call_queue.hpp"
#include "observe/observed_file.hpp"

#include <cstdint>
#include <memory>
#include <utility>

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// An open file of a node: the container or group behind it, and its calls, one at a time.
/// @tparam Served Container or Group.
template <typename Served>
struct OpenFile {
  /// The kernel keeps one of these from open to release; calls under way keep their own.
  using Handle = std::shared_ptr<OpenFile>;

  OpenFile(std::shared_ptr<Served> what, std::shared_ptr<observe::ObservedFile> file,
           client::AbandonedDescriptors &abandoned)
      : served(std::move(what)), observed(std::move(file)), residents(abandoned) {}

  /// The handle that the kernel keeps for @p file.
  static Handle &of(const fuse_file_info &file) { return *reinterpret_cast<Handle *>(file.fh); }

  /// Answers an open with @p opened.
  /// @return Whether there will be a release: a client that was killed while it opened gets no
  ///         file, and nothing is kept.
  static bool give(Handle opened, fuse_req_t request, fuse_file_info &file) {
    auto handle = std::make_unique<Handle>(std::move(opened));
    file.fh = reinterpret_cast<std::uint64_t>(handle.get());
    if (fuse_reply_open(request, &file) != 0)
      return false;
    (void)handle.release();
    return true;
  }

  /// Ends what give() began.
  static void forget(const fuse_file_info &file) { const std::unique_ptr<Handle> last(&of(file)); }

  /// Serves an ioctl on @p file, after those that came before it.
  static void serve(const fuse_file_info &file, fuse_req_t request, unsigned int command,
                    std::uint64_t argument, client::Surroundings surroundings,
                    observe::Observer &observer) {
    const Handle opened = of(file); // An answered client may close the file at once.
    if (const auto watched = CallerWatch::current())
      surroundings.hold = watched->hold;
    opened->queue.submit(
        std::make_unique<Call>(request, command, argument, opened->residents,
                               std::move(surroundings), observer, opened->observed),
        [served = opened->served.get()](Call &call) {
          call.serve(Served::call_name(call.command()), [served](Call &current) {
            return served->call(current.client(), current.command(), current.argument());
          });
        });
  }

  std::shared_ptr<Served> served;
  std::shared_ptr<observe::ObservedFile> observed;
  client::ResidentDescriptors residents;
  CallQueue queue;
};

} // namespace vfio_shim::cuse
