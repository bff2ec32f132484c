#pragma once

#include "client/fd.h"
#include "client/memory.h"

#include <chrono>
#include <cstddef>
#include <thread>

namespace legacy {

/// A page of private memory that is not there yet: whoever needs it waits until it is filled.
class SlowPage {
public:
  /// Throws std::system_error.
  SlowPage();
  SlowPage(const SlowPage &) = delete;
  SlowPage &operator=(const SlowPage &) = delete;

  std::byte *data() const { return memory_.data(); }
  /// Whether somebody begins to wait for it within `patience`.
  bool is_awaited(std::chrono::milliseconds patience) const;
  /// Makes it present, with zeros: whoever waits goes on.
  void fill() const;
  /// Takes it away again.
  void empty() const;

private:
  Memory memory_;
  Fd userfaults_;
};

} // namespace legacy
