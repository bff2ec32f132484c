// SPDX-License-Identifier: MIT
// What a client does with its own descriptors between its calls must not matter to them.

#include <charconv>
#include <filesystem>
#include <set>

#include <fcntl.h>
#include <unistd.h>

#include "child.h"
#include "suite.h"

namespace {

using namespace legacy;

LEGACY_SUITE(ClientDescriptors, LegacySuite);

std::set<int> open_descriptors() {
  std::set<int> numbers;
  for (const auto &entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
    const std::string name = entry.path().filename();
    int number = -1;
    std::from_chars(name.data(), name.data() + name.size(), number);
    numbers.insert(number);
  }
  return numbers;
}

/// The descriptors that this process has now and did not have at the time of `before`.
std::set<int> new_since(const std::set<int> &before) {
  std::set<int> added = open_descriptors();
  for (const int number : before)
    added.erase(number);
  // The directory itself was open while it was read, both times; it may have had another number.
  std::erase_if(added, [](int number) { return ::fcntl(number, F_GETFD) < 0; });
  return added;
}

void map_and_unmap(const Container &container) {
  const Memory memory{page};
  EXPECT_EQ(container.map(some_iova, memory), succeeds);
  EXPECT_EQ(container.unmap_all(), unmaps(page));
}

/// What mapping leaves in the client's table, beside what the client opened.
template <typename Body>
void with_what_mapping_leaves(const Provider &provider, Body body) {
  run_in_child([&] {
    const Client client{provider, topology::lone_edus(1)[0]};
    const std::set<int> before = open_descriptors();
    map_and_unmap(client.container);
    body(client, new_since(before));
  });
}

TEST_P(ClientDescriptors, WhatMappingLeavesIsClosedOnExec) {
  with_what_mapping_leaves(provider(), [](const Client &, const std::set<int> &left) {
    EXPECT_LE(left.size(), 1u);
    for (const int number : left)
      EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
  });
}

TEST_P(ClientDescriptors, WhatMappingLeavesMayBeClosed) {
  with_what_mapping_leaves(provider(), [](const Client &client, const std::set<int> &left) {
    for (const int number : left)
      ASSERT_EQ(::close(number), 0);
    map_and_unmap(client.container);
  });
}

TEST_P(ClientDescriptors, WhatMappingLeavesMayBeReplaced) {
  with_what_mapping_leaves(provider(), [](const Client &client, const std::set<int> &left) {
    for (const int number : left)
      ASSERT_EQ(::dup2(STDERR_FILENO, number), number);
    map_and_unmap(client.container);
    for (const int number : left)
      EXPECT_EQ(::fcntl(number, F_GETFL), ::fcntl(STDERR_FILENO, F_GETFL)) << "is the client's";
  });
}

TEST_P(ClientDescriptors, ContainersDoNotAddUp) {
  run_in_child([&] {
    const PciDevice device = topology::lone_edus(1)[0];
    const std::set<int> before = open_descriptors();
    for (int i = 0; i < 4; ++i) {
      const Client client{provider(), device};
      map_and_unmap(client.container);
    }
    EXPECT_LE(new_since(before).size(), 1u);
  });
}

TEST_P(ClientDescriptors, AForkedChildMapsWithItsOwn) {
  with_what_mapping_leaves(provider(), [](const Client &client, const std::set<int> &left) {
    run_in_child([&] {
      map_and_unmap(client.container);
      for (const int number : left)
        ASSERT_EQ(::close(number), 0);
      map_and_unmap(client.container);
    });
    map_and_unmap(client.container);
  });
}

} // namespace
