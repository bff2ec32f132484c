// SPDX-License-Identifier: MIT
#include "confinement.hpp"

#include "client/answer.h"
#include "client/seccomp.h"

#include <array>
#include <cstddef>

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace chaos {

namespace {

using legacy::Answer;

class Free final : public Confinement {
public:
  std::string_view name() const override { return "free"; }
  void confine_this_process() const override {}
};

/// A filter that kills for what the daemon has a borrowed thread do.
class Sandboxed final : public Confinement {
public:
  std::string_view name() const override { return "sandboxed"; }
  void confine_this_process() const override { legacy::forbid_oneself_borrowed_calls(); }
};

class Unprivileged final : public Confinement {
public:
  std::string_view name() const override { return "unprivileged"; }
  bool bound_by_limits() const override { return true; }
  void confine_this_process() const override {
    constexpr uid_t nobody = 65534;
    Answer::of(::setgroups(0, nullptr)).or_throw("setgroups");
    Answer::of(::setresgid(nobody, nobody, nobody)).or_throw("setresgid");
    Answer::of(::setresuid(nobody, nobody, nobody)).or_throw("setresuid");
  }
};

class InAUserNamespace final : public Confinement {
public:
  std::string_view name() const override { return "in-a-user-namespace"; }
  bool bound_by_limits() const override { return true; }
  void confine_this_process() const override {
    Answer::of(::unshare(CLONE_NEWUSER)).or_throw("unshare CLONE_NEWUSER");
  }
};

class InNamespaces final : public Confinement {
public:
  std::string_view name() const override { return "in-namespaces"; }
  bool in_a_pid_namespace() const override { return true; }
  void confine_this_process() const override {
    Answer::of(::unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS))
        .or_throw("unshare");
    Answer::of(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr)).or_throw("mount");
  }
};

const auto &every_confinement() {
  static const Free free;
  static const Sandboxed sandboxed;
  static const Unprivileged unprivileged;
  static const InAUserNamespace in_a_user_namespace;
  static const InNamespaces in_namespaces;
  static const std::array<const Confinement *, 5> all{&free, &sandboxed, &unprivileged,
                                                      &in_a_user_namespace, &in_namespaces};
  return all;
}

} // namespace

std::vector<std::string_view> confinement_names() {
  std::vector<std::string_view> names;
  for (const Confinement *confinement : every_confinement())
    names.push_back(confinement->name());
  return names;
}

const Confinement &some_confinement(Random &random, const Selection &selection) {
  // As many are free as all the others together.
  std::vector<const Confinement *> choice(every_confinement().size() - 1, every_confinement()[0]);
  for (const Confinement *confinement : every_confinement())
    if (confinement != every_confinement()[0] && selection.has(confinement->name()))
      choice.push_back(confinement);
  return *random.pick(choice);
}

} // namespace chaos
