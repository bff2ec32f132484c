// SPDX-License-Identifier: MIT
/// @file
/// The process that stays when the one that serves dies.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "keeper/kept_files.hpp"
#include "keeper/message.hpp"

namespace vfio_shim::keeper {

/// What a worker finds when it starts.
struct Inheritance {
  Fd keeper;                    ///< Where it sends its messages.
  KeptFiles files;              ///< None: it is the first worker.
  std::vector<Fd> predecessors; ///< Pidfds of workers before it that may not have ended yet.
  std::chrono::steady_clock::time_point since; ///< When that one was no more.
};

/// Keeps what its workers hold: each is a child that serves until it is told to end. If one dies,
/// the next takes over. Only a worker knows what the files are; the keeper reads nothing but their
/// names, and nothing that a client has said.
///
/// - SIGTERM, SIGINT, SIGUSR1: passed on to the worker, which knows what they mean.
/// - SIGHUP: another program takes over (see Keeper::Upgrade).
///
/// A worker dies with its keeper.
class Keeper {
public:
  /// How the program that is running is replaced by another one.
  struct Upgrade {
    std::vector<std::string> command; ///< The program's path, and its arguments. Empty: never.
    /// Whether that program can go on with what this one has written down. It says itself why not.
    std::function<bool()> may_follow;
  };

  /// @param files What was kept before. @param work The worker's life: returns its exit status.
  Keeper(KeptFiles files, std::function<int(Inheritance)> work, Upgrade upgrade);

  /// Keeps one worker after the other, until one ends as it was told to, or none can be started.
  /// The signals that it handles must be blocked. @return The exit status of the last one.
  int run();

private:
  struct Worker {
    Fd process; ///< A pidfd.
    pid_t pid = 0;
    Fd life; ///< See life_line.
    Fd messages;
    bool ready = false;
    bool stopping = false;
    bool mortal = false;
  };

  Result<void> start_worker();
  void wait_for_news();
  void handle_signals();
  void handle_messages();
  void handle(Message message);
  void forget_all();
  void tell_worker(int signal) const;
  void tell_again() const;
  bool worker_has_gone() const;
  int status_of_worker() const;
  Result<void> replace_worker();
  void reap_others();
  void become_next_program();
  bool inherit_worker();

  KeptFiles files_;
  std::function<int(Inheritance)> work_;
  Upgrade upgrade_;
  Fd signals_;
  Worker worker_;
  bool served_once_ = false;
  std::vector<Fd> past_; ///< Pidfds of workers that may not have ended yet.
  int told_ = 0; ///< The signal by which the worker was told to end, now or when nobody is left.
  bool upgrade_asked_ = false;
  bool makes_way_ = false; ///< The worker does, for one of this program.
  int failures_ = 0;       ///< Workers in a row that have not become ready.
  std::chrono::steady_clock::time_point gone_since_ = std::chrono::steady_clock::now();
};

} // namespace vfio_shim::keeper
