#pragma once

#include "client/provider.h"

#include <cstddef>

#include <sys/resource.h>
#include <sys/types.h>

namespace legacy {

/// The process that serves a shim's nodes, seen from outside.
class Daemon {
public:
  /// Throws std::runtime_error if nobody serves them.
  explicit Daemon(const Provider &shim);

  pid_t pid() const { return pid_; }
  std::size_t descriptors() const;
  std::size_t threads() const;

private:
  pid_t pid_;
};

/// While it lives, the daemon gets no new descriptor beyond this many.
class DescriptorLimit {
public:
  DescriptorLimit(const Daemon &daemon, std::size_t most);
  DescriptorLimit(const DescriptorLimit &) = delete;
  DescriptorLimit &operator=(const DescriptorLimit &) = delete;
  ~DescriptorLimit();

private:
  pid_t pid_;
  rlimit before_{};
};

} // namespace legacy
