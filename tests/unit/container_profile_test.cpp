// SPDX-License-Identifier: MIT
/// @file
/// Profiles for container engines.

#include <cerrno>
#include <nlohmann/json.hpp>
#include <string>

#include <gtest/gtest.h>

#include "supervise/container_profile.hpp"

namespace vfio_shim::supervise {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char *engines = R"({
  "defaultAction": "SCMP_ACT_ERRNO",
  "archMap": [],
  "syscalls": [
    {"names": ["read", "ioctl", "write"], "action": "SCMP_ACT_ALLOW", "args": []},
    {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0}]}]})";

TEST(ContainerProfile, KeepsTheEnginesRules) {
  const auto profile = container_profile(Json::parse(engines), "/run/agent");
  ASSERT_TRUE(profile);
  EXPECT_EQ((*profile)["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ((*profile)["listenerPath"], "/run/agent");
  EXPECT_EQ((*profile)["flags"], Json({"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}));
  const Json &rules = (*profile)["syscalls"];
  ASSERT_EQ(rules.size(), 2U + 1U + 2U);
  EXPECT_EQ(rules[0]["names"], Json({"read", "write"}));
  EXPECT_EQ(rules[1]["names"], Json({"personality"}));
  for (std::size_t at = 2; at < rules.size(); ++at) {
    EXPECT_EQ(rules[at]["names"], Json({"ioctl"}));
    EXPECT_FALSE(rules[at]["args"].empty()) << "it would hide the others";
  }
}

TEST(ContainerProfile, OfOneThatLetsAllPassOnlyTraps) {
  const auto profile = container_profile(permissive_profile(), "/run/agent", true);
  ASSERT_TRUE(profile);
  ASSERT_EQ((*profile)["syscalls"].size(), 4U);
  for (const Json &rule : (*profile)["syscalls"])
    EXPECT_EQ(rule["action"], "SCMP_ACT_NOTIFY");
}

TEST(ContainerProfile, NeedsOneThatLetsIoctlsPass) {
  for (const char *text : {"[]", "{}", R"({"defaultAction": "SCMP_ACT_ERRNO"})",
                           R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": 1})",
                           R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                               {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{}]}]})",
                           R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                               {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                                "includes": {"caps": ["CAP_SYS_ADMIN"]}}]})"}) {
    const auto profile = container_profile(Json::parse(text), "/run/agent");
    ASSERT_FALSE(profile) << text;
    EXPECT_EQ(profile.error().code, EINVAL);
  }
}

} // namespace
} // namespace vfio_shim::supervise
