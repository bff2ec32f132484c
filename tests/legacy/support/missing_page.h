// SPDX-License-Identifier: MIT
#pragma once

#include "client/fd.h"
#include "client/memory.h"

#include <chrono>

namespace legacy {

/// Two pages of private memory. Whoever touches the second one waits until it is filled, or this
/// process ends: its page faults are this process's to resolve (userfaultfd). Needs root.
class MissingPage {
public:
  MissingPage();

  /// The first page, which is there.
  std::byte *present() const { return memory_.data(); }
  /// The second one, which is not.
  std::byte *missing() const { return memory_.at(page); }
  /// Waits until somebody waits for the missing page. Throws std::runtime_error if nobody does.
  void await_fault(std::chrono::seconds patience = std::chrono::seconds{30}) const;
  /// Fills it with zeros: whoever waits goes on.
  void fill() const;

private:
  Memory memory_;
  Fd faults_;
};

} // namespace legacy
