// SPDX-License-Identifier: MIT
#include "cuse/call.hpp"

#include "cuse/session.hpp"
#include "cuse/worker_pool.hpp"

#include <spdlog/spdlog.h>

namespace vfio_shim::cuse {

namespace {

/// What a call gets that is answered early. A thread that has a signal, or is being seized, never
/// sees it: the kernel has it make the call once more (ERESTARTNOINTR, include/linux/errno.h).
constexpr int make_it_again = -513;

/// Failures that an operator wants to hear of: the client could not be helped, rather than wrong.
bool deserves_warning(const Error &error) {
  return error.for_operator || error.code == EBUSY || error.code == EOPNOTSUPP ||
         error.code == ENOSPC;
}

} // namespace

Call::Call(fuse_req_t request, unsigned int command, std::uint64_t argument,
           client::ResidentDescriptors &residents, client::Surroundings surroundings,
           observe::Observer &observer, std::shared_ptr<observe::ObservedFile> file, CallBook &book)
    : request_(request),
      command_(command),
      argument_(argument),
      observer_(observer),
      book_(book),
      identity_{.file = file->number(),
                .unique = Session::first_number_under_way(),
                .thread = Tid{fuse_req_ctx(request)->pid},
                .command = command,
                .argument = argument},
      hold_(surroundings.hold),
      client_(
          Tid{fuse_req_ctx(request)->pid},
          [request] {
            WorkerPool::let_others_in(); // From now on the client decides how long it takes.
            return fuse_reply_ioctl(request, make_it_again, nullptr, 0) == 0;
          },
          residents, std::move(surroundings)),
      observed_(observer, observe::trace::Kind::call, std::move(file),
                Tid{fuse_req_ctx(request)->pid}, command, argument) {}

void Call::serve(std::string_view name, const std::function<Result<long>(Call &)> &handle) {
  const WitnessScope watched(observed_);
  if (hold_)
    hold_->serve_from_this_thread();
  observed_.begins([this] { return client_.pid(); });
  notes_ = book_.begin(identity_);
  client_.note_in(*notes_);
  const Result<long> result = carry_out(handle);
  observed_.answering();
  reply(name, result);
  observed_.answered(result ? *result : -1, result ? 0 : result.error().code);
}

Result<long> Call::carry_out(const std::function<Result<long>(Call &)> &handle) {
  VFIO_SHIM_TRY(notes_->check());
  return handle(*this);
}

void Call::log(std::string_view name, const Error &error) {
  const auto line = [&] {
    return fmt::format("{}: {} ({:#x}) with {:#x}: {}", client_.describe(),
                       name.empty() ? "ioctl" : name, command_, argument_, error.describe());
  };
  if (deserves_warning(error))
    observer_.warn(line);
  else if (spdlog::should_log(spdlog::level::debug))
    spdlog::debug("{}", line());
}

void Call::reply(std::string_view name, const Result<long> &result) {
  if (!result)
    log(name, result.error());
  answer(result ? *result : -result.error().code);
}

/// @param result A value, or a negative errno.
void Call::answer(long result) {
  answered_ = true;
  if (!client_.finish(result)) {
    if (result >= 0)
      fuse_reply_ioctl(request_, static_cast<int>(result), nullptr, 0);
    else
      fuse_reply_err(request_, static_cast<int>(-result));
  }
  if (notes_)
    notes_->answered();
}

void Call::answer_if_nobody_has(int error) {
  if (!answered_)
    answer(-error);
}

} // namespace vfio_shim::cuse
