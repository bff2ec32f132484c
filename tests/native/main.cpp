// SPDX-License-Identifier: MIT
#include "client/memory.h"

#include <gtest/gtest.h>

namespace {

// Enough for every test that maps hugetlb memory.
constexpr std::uint64_t huge_pages_needed = 8;

} // namespace

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  const legacy::HugePageReserve huge_pages{huge_pages_needed};
  return RUN_ALL_TESTS();
}
