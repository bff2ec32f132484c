// SPDX-License-Identifier: MIT
/// @file
/// One legacy ioctl being served.
#pragma once

#include "client/calling_thread.hpp"
#include "cuse/call_book.hpp"
#include "observe/observed_call.hpp"

#include "vfio_shim/result.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// An ioctl from the moment it was received to its answer.
///
/// The answer has two ways out, and nobody but this class knows which one it takes: a FUSE reply,
/// or the registers of the client's thread, if that was borrowed and so had been answered early.
class Call {
public:
  /// @param observer Is told what becomes of it.
  /// @param file The node's open file that it is a call on.
  /// @param book Where it is noted while it is served; outlives the call.
  Call(fuse_req_t request, unsigned int command, std::uint64_t argument,
       client::ResidentDescriptors &residents, client::Surroundings surroundings,
       observe::Observer &observer, std::shared_ptr<observe::ObservedFile> file, CallBook &book);

  unsigned int command() const { return command_; }
  std::uint64_t argument() const { return argument_; }
  Client &client() { return client_; }

  /// Answers the client with what @p handle makes of the call, once.
  /// @param name The ioctl's name, for the log; may be empty.
  void serve(std::string_view name, const std::function<Result<long>(Call &)> &handle);

  /// The last defence against a call without an answer. @param error A positive errno.
  void answer_if_nobody_has(int error);

private:
  Result<long> carry_out(const std::function<Result<long>(Call &)> &handle);
  void log(std::string_view name, const Error &error);
  void reply(std::string_view name, const Result<long> &result);
  void answer(long result);

  fuse_req_t request_;
  unsigned int command_;
  std::uint64_t argument_;
  observe::Observer &observer_;
  CallBook &book_;
  const CallBook::Identity identity_;
  std::unique_ptr<CallBook::Entry> notes_;   ///< While it is served.
  std::shared_ptr<client::CallerHold> hold_; ///< Of surroundings; may be none.
  client::CallingThread client_;
  observe::ObservedCall observed_;
  bool answered_ = false;
};

} // namespace vfio_shim::cuse
