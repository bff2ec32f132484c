// SPDX-License-Identifier: MIT
#include "excuses.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

namespace chaos {

namespace {

constexpr std::array every_call{CallKind::open,        CallKind::set_up,     CallKind::get_device,
                                CallKind::map_private, CallKind::map_shared, CallKind::map_device,
                                CallKind::unmap,       CallKind::ask};
constexpr std::array opening_calls{CallKind::open};
constexpr std::array borrowing_calls{CallKind::get_device, CallKind::map_private};
constexpr std::array shared_maps{CallKind::map_shared};

constexpr std::array busy{EBUSY};
constexpr std::array gone{ENODEV, ENXIO, EINVAL, ENOENT, EBADF,    ENOTTY,
                          EIO,    EBUSY, EPERM,  EFAULT, ENOTCONN, ECONNABORTED};
constexpr std::array no_descriptor{EMFILE, ENFILE, ENOMEM};
constexpr std::array no_thread{EAGAIN, ENOMEM};
constexpr std::array no_memory{ENOMEM};

struct Rule {
  Excuse excuse;
  std::span<const CallKind> calls;
  std::span<const int> errors;
  std::string_view reason;
};

constexpr std::array rules{
    Rule{Excuse::traced, borrowing_calls, busy,
         "the client's own thread must run a system call, and has a tracer already"},
    Rule{Excuse::device_taken, every_call, gone,
         "the kernel's groups answer any of these to whoever still uses a group whose device "
         "leaves, "
         "depending on how far both are; a CUSE node that is gone, the last two"},
    Rule{Excuse::few_descriptors, every_call, no_descriptor,
         "the daemon opens files for a call, and says truly why it cannot"},
    Rule{Excuse::few_descriptors, shared_maps, busy,
         "memory that the daemon lacks a descriptor for is mapped as private memory is: by the "
         "client's thread, which may have a tracer"},
    Rule{Excuse::few_threads, every_call, no_thread,
         "whoever needs a new thread for a call says truly that there is none"},
    Rule{Excuse::few_threads, opening_calls, busy,
         "the last owner of the group may be on his way out for longer than an open waits"},
    Rule{Excuse::little_memory, every_call, no_memory,
         "the daemon needs memory for a call, and says truly that there is none"},
};

} // namespace

bool excuses(Excuse excuse, CallKind call, int error) {
  return std::ranges::any_of(rules, [&](const Rule &rule) {
    return rule.excuse == excuse && std::ranges::find(rule.calls, call) != rule.calls.end() &&
           std::ranges::find(rule.errors, error) != rule.errors.end();
  });
}

std::string_view to_string(Excuse excuse) {
  switch (excuse) {
  case Excuse::traced:
    return "traced";
  case Excuse::device_taken:
    return "its device was being unbound";
  case Excuse::few_descriptors:
    return "the daemon had few descriptors";
  case Excuse::few_threads:
    return "the daemon could have no more threads";
  case Excuse::little_memory:
    return "the daemon had little memory";
  }
  return "?";
}

} // namespace chaos
