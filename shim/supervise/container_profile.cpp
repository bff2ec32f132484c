// SPDX-License-Identifier: MIT
#include "supervise/container_profile.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include <linux/kvm.h>
#include <linux/vfio.h>

namespace vfio_shim::supervise {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char *allow = "SCMP_ACT_ALLOW";

Json condition(unsigned int argument, std::uint64_t value, const char *how) {
  return {{"index", argument}, {"value", value}, {"valueTwo", 0}, {"op", how}};
}

Json rule_for_ioctl(const char *action, std::vector<Json> conditions) {
  return {{"names", {"ioctl"}}, {"action", action}, {"args", std::move(conditions)}};
}

Json trap(std::uint64_t command) {
  return rule_for_ioctl("SCMP_ACT_NOTIFY", {condition(1, command, "SCMP_CMP_EQ")});
}

/// Takes ioctl() out of the rule. @return Whether it let all of them pass.
bool take_ioctl_out(Json &rule) {
  if (!rule.is_object() || !rule.contains("names") || !rule["names"].is_array())
    return false;
  Json others = Json::array();
  bool had_it = false;
  for (const Json &name : rule["names"]) {
    if (name == "ioctl")
      had_it = true;
    else
      others.push_back(name);
  }
  const bool conditional =
      std::ranges::any_of(std::array{"args", "includes", "excludes"}, [&rule](const char *key) {
        return rule.contains(key) && !rule[key].empty();
      });
  if (!had_it || conditional || rule.value("action", Json()) != allow)
    return false;
  rule["names"] = std::move(others);
  return true;
}

} // namespace

Json permissive_profile() {
  return {{"defaultAction", allow},
          {"architectures", {"SCMP_ARCH_X86_64"}},
          {"syscalls", Json::array()}};
}

Result<Json> container_profile(Json base, const std::filesystem::path &socket, bool resets) {
  if (!base.is_object() || !base.contains("defaultAction") ||
      (base.contains("syscalls") && !base["syscalls"].is_array()))
    return fail(EINVAL, "not a seccomp profile");
  Json rules = Json::array();
  bool allowed = base["defaultAction"] == allow;
  const bool by_default = allowed;
  for (Json &rule : base["syscalls"]) {
    allowed = take_ioctl_out(rule) || allowed;
    if (!rule.is_object() || !rule.contains("names") || !rule["names"].empty())
      rules.push_back(std::move(rule));
  }
  if (!allowed)
    return fail(EINVAL, "the profile does not let every ioctl() pass");
  // A rule without a condition would make libseccomp forget those with one. This one is always
  // true; libseccomp asks for the number of the ioctl first.
  if (!by_default)
    rules.push_back(rule_for_ioctl(allow, {condition(0, 0, "SCMP_CMP_GE")}));
  rules.push_back(trap(KVM_SET_DEVICE_ATTR));
  rules.push_back(trap(VFIO_IOMMU_DIRTY_PAGES));
  if (resets)
    for (const std::uint64_t command :
         {VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, VFIO_DEVICE_PCI_HOT_RESET})
      rules.push_back(trap(command));
  base["syscalls"] = std::move(rules);
  base["listenerPath"] = socket.string();
  Json &flags = base["flags"];
  const char *const wait_killable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
  if (!flags.is_array())
    flags = Json::array();
  if (std::ranges::find(flags, Json(wait_killable)) == flags.end())
    flags.push_back(wait_killable);
  return base;
}

} // namespace vfio_shim::supervise
