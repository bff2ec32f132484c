// SPDX-License-Identifier: MIT
/// @file
/// A directory for ledgers that these tests may write to.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace vfio_shim::test {

/// A directory as /run/vfio-shim is to the program; goes with this object.
class LedgerPlace {
public:
  LedgerPlace() {
    // In memory if possible, as /run is.
    std::error_code error;
    const std::filesystem::path memory = "/dev/shm";
    std::string path =
        (std::filesystem::is_directory(memory, error) ? memory
                                                      : std::filesystem::temp_directory_path()) /
        "vfio-shim-ledgers.XXXXXX";
    directory_ = ::mkdtemp(path.data()) != nullptr ? path : "";
  }
  LedgerPlace(const LedgerPlace &) = delete;
  LedgerPlace &operator=(const LedgerPlace &) = delete;
  ~LedgerPlace() {
    std::error_code ignored;
    if (!directory_.empty())
      std::filesystem::remove_all(directory_, ignored);
  }

  const std::filesystem::path &directory() const { return directory_; }

private:
  std::filesystem::path directory_;
};

} // namespace vfio_shim::test
