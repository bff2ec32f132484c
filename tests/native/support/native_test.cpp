// SPDX-License-Identifier: MIT
#include "support/native_test.hpp"

#include "backend/iommufd.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <random>

namespace vfio_shim::test {

namespace {

constexpr legacy::Bytes transfer = legacy::Edu::largest_transfer;

/// As many bytes as one transfer moves, each time others.
std::vector<std::byte> noise() {
  static std::mt19937 generator;
  std::vector<std::byte> bytes(transfer.count);
  std::ranges::generate(bytes, [] { return static_cast<std::byte>(generator() >> 24); });
  return bytes;
}

bool holds(const std::byte *memory, const std::vector<std::byte> &bytes) {
  return std::memcmp(memory, bytes.data(), bytes.size()) == 0;
}

/// Whether a program that comes next gets the group.
void expect_free(const topology::Group &group) {
  auto backend = IommufdBackend::create("/dev/iommu");
  ASSERT_EQ(answer_of(backend), succeeds);
  EXPECT_EQ(answer_of((*backend)->claim(group)), succeeds)
      << "group " << group.id.value << " was left taken";
}

} // namespace

BackendFactory iommufd_factory() {
  return [] { return IommufdBackend::create("/dev/iommu"); };
}

bool dma_works(const legacy::Edu &edu, const legacy::Memory &memory, Iova iova) {
  const auto sent = noise();
  std::ranges::copy(sent, memory.data());
  std::ranges::copy(noise(), memory.at(legacy::page));
  edu.fetch(to_legacy(iova), transfer);
  edu.store(to_legacy(iova + page), transfer);
  return holds(memory.at(legacy::page), sent);
}

bool device_reaches(const legacy::Edu &edu, const legacy::Memory &memory, Iova iova) {
  const auto before = noise();
  std::ranges::copy(before, memory.data());
  edu.store(to_legacy(iova), transfer);
  return !holds(memory.data(), before);
}

std::uint64_t pinned_bytes() {
  std::ifstream status{"/proc/self/status"};
  for (std::string word; status >> word;)
    if (word == "VmPin:") {
      std::uint64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  return 0;
}

NativeTest::NativeTest(std::optional<IovaRange> window)
    : program({.make_backend = iommufd_factory(), .iova_window = window}, {}) {}

void NativeTest::TearDown() {
  const auto groups = topology::groups();
  ASSERT_TRUE(groups);
  for (const topology::Group &group : *groups)
    expect_free(group);
}

void NativeContainerTest::TearDown() {
  container.close();
  group.reset();
  NativeTest::TearDown();
}

} // namespace vfio_shim::test
