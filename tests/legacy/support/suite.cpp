// SPDX-License-Identifier: MIT
#include "suite.h"

#include <sys/types.h>
#include <unistd.h>

namespace legacy {
namespace {

/// The process that runs the tests and writes their results: not one that a test has forked.
const pid_t test_process = ::getpid();

std::vector<Provider> &the_providers() {
  static std::vector<Provider> providers;
  return providers;
}

} // namespace

void note_difference(const Provider &provider, Behaviour behaviour) {
  // Whatever the provider, so that it shows on type1 already.
  if (::getpid() != test_process)
    ADD_FAILURE() << "asked for " << to_string(behaviour)
                  << " in a child, whose notes do not reach the results: ask before it is forked";
  const Difference *difference = find_difference(provider, behaviour);
  if (difference == nullptr)
    return;
  const std::string instead = difference->instead ? to_string(*difference->instead) + ": " : "";
  testing::Test::RecordProperty("difference:" + std::string{to_string(behaviour)},
                                instead + std::string{difference->reason});
}

const std::vector<Provider> &providers_under_test() {
  return the_providers();
}

void set_providers_under_test(std::vector<Provider> providers) {
  the_providers() = std::move(providers);
}

std::vector<Provider> providers_like_type1_in(Behaviour behaviour) {
  std::vector<Provider> alike = providers_under_test();
  std::erase_if(alike, [&](const Provider &p) { return legacy::differs(p, behaviour); });
  return alike;
}

std::vector<Provider> shims_under_test() {
  std::vector<Provider> shims = providers_under_test();
  std::erase_if(shims, [](const Provider &p) { return !p.is_shim(); });
  return shims;
}

void note_feature(Behaviour behaviour) {
  testing::Test::RecordProperty("feature", std::string{to_string(behaviour)});
}

Answer LegacySuite::expected(Behaviour behaviour, Answer type1s) const {
  note_difference(provider(), behaviour);
  return legacy::expected(provider(), behaviour, type1s);
}

bool LegacySuite::differs(Behaviour behaviour) const {
  note_difference(provider(), behaviour);
  return legacy::differs(provider(), behaviour);
}

void AttachedSuite::SetUp() {
  client_.emplace(provider(), topology::lone_edus(1)[0], type_);
}

void AttachedSuite::TearDown() {
  edu_.reset();
  client_.reset();
}

Edu &AttachedSuite::edu() {
  if (!edu_)
    edu_.emplace(client().device);
  return *edu_;
}

Memory AttachedSuite::seen_by_device(Iova from, Bytes size) {
  constexpr Iova by_way_of = some_iova + 16_MiB;
  Memory seen{page};
  EXPECT_EQ(container().map(by_way_of, seen), succeeds);
  copy_by_dma(edu(), from, by_way_of, size);
  EXPECT_EQ(container().unmap(by_way_of, page), unmaps(page));
  return seen;
}

void copy_by_dma(const Edu &device, Iova from, Iova to, Bytes size) {
  device.fetch(from, size);
  device.store(to, size);
}

void expect_dma_works(const Container &container, const Edu &device, Iova iova) {
  constexpr std::uint32_t seed = 42;
  const Memory memory{page * 2};
  memory.fill({0}, Edu::largest_transfer, seed);
  ASSERT_EQ(container.map(iova, memory), succeeds);
  copy_by_dma(device, iova, iova + page);
  EXPECT_TRUE(memory.holds(page, Edu::largest_transfer, seed)) << "DMA did not copy the bytes";
  EXPECT_EQ(container.unmap(iova, memory.size()), unmaps(memory.size()));
}

void expect_a_client_works(const Provider &provider, const PciDevice &device) {
  const Client client{provider, device};
  const Edu edu{client.device};
  expect_dma_works(client.container, edu);
}

} // namespace legacy
