// SPDX-License-Identifier: MIT
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include <sys/types.h>

#include "fd.h"

namespace legacy {

/// What the kernel was made to fail.
enum class Injected {
  Nothing, ///< There was nothing left to fail.
  Memory,  ///< An allocation.
  Copy,    ///< A copy from or to user space: EFAULT, although the address is good.
  Pretence ///< A kernel with CONFIG_IOMMUFD_TEST pretends that an object is not there, or the like.
};

std::ostream &operator<<(std::ostream &out, Injected injected);

/// Makes the kernel fail on purpose, while it exists (CONFIG_FAULT_INJECTION, as root). There is
/// one at a time in the whole machine, whose devices must have been enabled in advance
/// (tests/inside --enabled).
///
/// It lets every allocation take part, also those that could wait for memory, and single pages. The
/// kernel counts copies from and to user space along with allocations, and what iommufd pretends
/// for its own tests, and has no way to leave them out; Injected tells which it was.
class FaultInjection {
public:
  /// Throws std::system_error if the kernel cannot do it, std::runtime_error if a device is not
  /// enabled.
  FaultInjection();
  FaultInjection(const FaultInjection &) = delete;
  FaultInjection &operator=(const FaultInjection &) = delete;
  ~FaultInjection();

private:
  friend class FailingThread;
  void prepare();
  Injected what_failed() const;

  /// A file below /sys/kernel/debug, and what it said before.
  struct Setting {
    std::string path;
    std::string before;
  };
  void set(const std::string &name, const std::string &value);
  std::vector<Setting> changed_;
};

/// The calling thread, one of whose allocations is to fail.
class FailingThread {
public:
  explicit FailingThread(FaultInjection &injection);

  /// Lets the `nth` allocation fail, counted from now on.
  void arm(unsigned nth);
  /// Lets nothing fail any more. What has failed since arm().
  Injected disarm();

private:
  FaultInjection &injection_;
  Fd counter_;
};

/// A process of several threads, one of whose allocations is to fail. Copies do not fail here.
class FailingProcess {
public:
  /// What the kernel allocates: objects, counted in bytes, or pages.
  enum class Kind { Objects, Pages };

  FailingProcess(FaultInjection &injection, pid_t pid);

  /// Lets one allocation fail, of any thread of the process: the first after `room` bytes or pages.
  void arm(Kind kind, unsigned long room);
  /// Lets nothing fail any more. Whether something has failed since arm().
  bool disarm();

private:
  pid_t pid_;
};

} // namespace legacy
