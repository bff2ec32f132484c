// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include <gtest/gtest.h>
#include <sys/types.h>

namespace legacy {

/// A forked child that runs a body made of ordinary EXPECT_ and ASSERT_ lines.
///
/// What fails in the child is printed by the child and makes wait() fail. The destructor kills
/// what still runs, and a child does not outlive its parent, so nothing is left behind.
class Child {
public:
  explicit Child(const std::function<void()> &body);
  Child(const Child &) = delete;
  Child &operator=(const Child &) = delete;
  ~Child();

  pid_t pid() const { return pid_; }
  void kill_now();
  /// Whether the child ends within `patience` and nothing failed in it.
  testing::AssertionResult wait(std::chrono::seconds patience = default_patience);
  /// Whether the child ends within `patience`, in whatever way.
  bool ends_within(std::chrono::milliseconds patience) const;

  static constexpr std::chrono::seconds default_patience{30};

private:
  /// Collects the child's status, which must not take long once it was killed or has ended.
  /// Whether it could: a thread that somebody else traces can keep a dead process from its end.
  bool reap();

  pid_t pid_;
  std::optional<int> status_;
};

/// Runs `body` in a forked child and waits for it. What fails there fails the test here, with the
/// line of this call.
void run_in_child(const std::function<void()> &body, const char *file = __builtin_FILE(),
                  int line = __builtin_LINE());

/// Something one process waits for and another one announces. Made before fork.
class Signpost {
public:
  Signpost();
  Signpost(const Signpost &) = delete;
  Signpost &operator=(const Signpost &) = delete;
  ~Signpost();

  void announce() const;
  /// Whether it was announced within `patience`. Takes the announcement away.
  bool await(std::chrono::seconds patience = Child::default_patience) const;

private:
  int eventfd_;
};

} // namespace legacy
