// SPDX-License-Identifier: MIT
#include "observe/observer.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::observe {

std::uint64_t Observer::since_beginning(Clock::time_point when) const {
  if (recorder_ == nullptr)
    return 0;
  const std::chrono::nanoseconds since = when - recorder_->began();
  return static_cast<std::uint64_t>(std::max<std::int64_t>(since.count(), 0));
}

std::shared_ptr<ObservedFile> Observer::opening(FileNumber file, Pid client,
                                                std::optional<GroupId> group) {
  return std::make_shared<ObservedFile>(file, group, client,
                                        usage_ != nullptr ? usage_->program_of(client) : nullptr);
}

void Observer::warn(const std::function<std::string()> &line) {
  if (!spdlog::should_log(spdlog::level::warn))
    return;
  const auto withheld = warnings_.spend();
  if (!withheld)
    return;
  spdlog::warn("{}{}", line(),
               *withheld == 0 ? "" : fmt::format(" ({} warnings before were too many)", *withheld));
}

void Observer::add(const trace::Record &record, const ObservedFile &file) {
  statistics_.add(record);
  if (recorder_ != nullptr)
    recorder_->add(record);
  if (LiveUse *program = file.program())
    program->add(record);
}

} // namespace vfio_shim::observe
