// SPDX-License-Identifier: MIT
#pragma once

#include "client/client.h"
#include "client/edu.h"
#include "client/memory.h"

#include <optional>
#include <vector>

#include <gtest/gtest.h>

#include "known_differences.h"

namespace legacy {

/// The providers this run is about; set once by main.
const std::vector<Provider> &providers_under_test();
void set_providers_under_test(std::vector<Provider> providers);

/// The providers under test that do as type1 does in `behaviour`.
std::vector<Provider> providers_like_type1_in(Behaviour behaviour);

/// The providers under test that are the shim, on whatever backend.
std::vector<Provider> shims_under_test();

/// Puts a known difference, if there is one, down in the test's results: docs/conformance.md is
/// made of them. In a forked child, whose results are lost, it is a failure.
void note_difference(const Provider &provider, Behaviour behaviour);

/// Puts down in the test results that the suite is about providers with this behaviour.
void note_feature(Behaviour behaviour);

/// A suite that runs once for every provider. Nothing is open at the start of a test.
class LegacySuite : public testing::TestWithParam<Provider> {
protected:
  const Provider &provider() const { return GetParam(); }
  /// What this provider is expected to answer where type1 answers `type1s`. Notes the difference,
  /// as differs() does: neither may be called in a forked child.
  Answer expected(Behaviour behaviour, Answer type1s) const;
  /// Whether this provider is known to differ from type1, in more than one answer.
  bool differs(Behaviour behaviour) const;
};

/// A suite each of whose tests starts with one edu, alone in its group, in a container of its own.
class AttachedSuite : public LegacySuite {
protected:
  explicit AttachedSuite(IommuType type = IommuType::Type1v2) : type_{type} {}

  void SetUp() override;
  void TearDown() override;

  /// Whether the client was set up; false in TearDown() when SetUp() failed.
  bool attached() const { return client_.has_value(); }
  Client &client() { return client_.value(); }
  Container &container() { return client().container; }
  /// The device's driver; made when first asked for.
  Edu &edu();
  /// Has the device copy the start of what is mapped at `from` into a page of its own, and gives
  /// that page. It is mapped 16 MiB above some_iova meanwhile.
  Memory seen_by_device(Iova from, Bytes size = Edu::largest_transfer);
  /// How many more mappings the container says it takes.
  std::uint32_t dma_available() { return container().info().dma_available.value_or(0); }

private:
  IommuType type_;
  std::optional<Client> client_;
  std::optional<Edu> edu_;
};

/// As AttachedSuite, for the original TYPE1 interface.
class AttachedV1Suite : public AttachedSuite {
protected:
  AttachedV1Suite() : AttachedSuite{IommuType::Type1} {}
};

/// Where tests map things: low enough for edu's engine, and not IOVA 0.
inline constexpr Iova some_iova{0x100000};

/// Whether `device` copies `size` bytes from `from` to `to`, both below 256 MiB, when told to: one
/// DMA read and one DMA write.
void copy_by_dma(const Edu &device, Iova from, Iova to, Bytes size = Edu::largest_transfer);

/// Maps two pages at `iova`, has `device` copy the first one's start to the second, and checks the
/// bytes. Unmaps them again.
void expect_dma_works(const Container &container, const Edu &device, Iova iova = some_iova);

/// Opens everything anew, moves bytes by DMA and closes everything.
void expect_a_client_works(const Provider &provider, const PciDevice &device);

} // namespace legacy

/// Declares suite `Name` on `Base`, to be run once for every provider.
#define LEGACY_SUITE(Name, Base)                                                                   \
  class Name : public Base {};                                                                     \
  INSTANTIATE_TEST_SUITE_P(, Name, testing::ValuesIn(legacy::providers_under_test()),              \
                           [](const auto &info) { return info.param.identifier(); })

/// As LEGACY_SUITE, for the shim only: about the daemon, which the kernel's own providers have not.
#define LEGACY_SUITE_OF_SHIMS(Name, Base)                                                          \
  class Name : public Base {};                                                                     \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Name);                                             \
  INSTANTIATE_TEST_SUITE_P(, Name, testing::ValuesIn(legacy::shims_under_test()),                  \
                           [](const auto &info) { return info.param.identifier(); })

/// As LEGACY_SUITE, for the providers that have `behaviour` at all. That the others have not needs
/// a test of its own, in a suite for every provider.
#define LEGACY_SUITE_OF_THOSE_WITH(behaviour, Name, Base)                                          \
  class Name : public Base {                                                                       \
  public:                                                                                          \
    static void SetUpTestSuite() { legacy::note_feature(behaviour); }                              \
  };                                                                                               \
  GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Name);                                             \
  INSTANTIATE_TEST_SUITE_P(, Name, testing::ValuesIn(legacy::providers_like_type1_in(behaviour)),  \
                           [](const auto &info) { return info.param.identifier(); })
