// SPDX-License-Identifier: MIT
/// @file
/// The fuzz target's corpus, without a fuzzer: inputs that have found something keep being tried.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include <gtest/gtest.h>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *bytes, std::size_t size);

namespace {

TEST(FuzzCorpus, RunsWithoutAnAbort) {
  int inputs = 0;
  for (const auto &entry : std::filesystem::directory_iterator(VFIO_SHIM_FUZZ_CORPUS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator(file), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t *>(bytes.data()), bytes.size());
    ++inputs;
  }
  EXPECT_GT(inputs, 0) << "no corpus in " VFIO_SHIM_FUZZ_CORPUS;
}

} // namespace
