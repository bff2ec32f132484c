// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"

#include <cstddef>

#include <sys/resource.h>
#include <sys/types.h>

namespace legacy {

/// The daemon that serves `provider`, which is the shim. Throws std::runtime_error when there is
/// none.
pid_t daemon_of(const Provider &provider);

/// How many threads the process has.
std::size_t threads_of(pid_t process);

/// How many descriptors the process has.
std::size_t descriptors_of(pid_t process);

/// While it lives, the process gets no new descriptor with this number or a higher one.
class DescriptorLimit {
public:
  /// Throws std::system_error.
  DescriptorLimit(pid_t process, std::size_t limit);
  DescriptorLimit(const DescriptorLimit &) = delete;
  DescriptorLimit &operator=(const DescriptorLimit &) = delete;
  ~DescriptorLimit();

private:
  pid_t process_;
  rlimit before_{};
};

} // namespace legacy
