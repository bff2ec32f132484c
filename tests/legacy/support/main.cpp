// SPDX-License-Identifier: MIT
#include "client/memory.h"
#include "client/topology.h"

#include <exception>
#include <iostream>

#include <gtest/gtest.h>

#include "suite.h"

namespace {

using namespace legacy;

// Enough for every test that maps hugetlb memory.
constexpr std::uint64_t huge_pages_needed = 8;

void print_setting(const std::vector<Provider> &providers) {
  std::cout << "providers:\n";
  for (const Provider &provider : providers)
    std::cout << "  " << provider.name << ": " << provider.container << ", " << provider.groups
              << "/N (" << provider.notes << ")\n";
  std::cout << "devices bound to vfio-pci:\n";
  for (const PciDevice &device : topology::vfio_devices())
    std::cout << "  " << device.address << " group " << static_cast<int>(device.group)
              << (device.is_edu() ? " edu" : "") << (device.shares_group() ? ", shared group" : "")
              << "\n";
  std::cout << std::flush;
}

} // namespace

int main(int argc, char **argv) {
  try {
    set_providers_under_test(select_providers(ProviderSelection::take_from(argc, argv)));
    print_setting(providers_under_test());
    const HugePageReserve huge_pages{huge_pages_needed};
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  } catch (const std::exception &cause) {
    std::cerr << "legacy_tests: " << cause.what() << "\n";
    return 1;
  }
}
