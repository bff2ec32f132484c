// SPDX-License-Identifier: MIT
#include "observe/observed_file.hpp"

#include "observe/process_identity.hpp"

#include <algorithm>

namespace vfio_shim::observe {

namespace {

ObservedFile::Caller describe(Pid pid) {
  ObservedFile::Caller caller{.pid = pid};
  const std::string command = identify(pid).command;
  std::ranges::copy(command.substr(0, caller.command.size()), caller.command.begin());
  return caller;
}

} // namespace

ObservedFile::ObservedFile(FileNumber number, std::optional<GroupId> group, Pid opener,
                           std::shared_ptr<LiveUse> program)
    : number_(number), group_(group), opener_(describe(opener)), program_(std::move(program)) {}

ObservedFile::Caller ObservedFile::caller(Tid thread,
                                          const std::function<Pid()> &process_of_thread) {
  const std::scoped_lock lock(mutex_);
  const auto known = callers_.find(thread);
  if (known != callers_.end())
    return known->second;
  if (callers_.size() == most_remembered)
    callers_.clear();
  const Pid pid = process_of_thread();
  return callers_[thread] = pid == opener_.pid ? opener_ : describe(pid);
}

} // namespace vfio_shim::observe
