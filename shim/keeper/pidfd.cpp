// SPDX-License-Identifier: MIT
#include "keeper/pidfd.hpp"

#include <fstream>
#include <string>

#include <fmt/format.h>

namespace vfio_shim::keeper {

Pid process_behind(const Fd &process) {
  std::ifstream information(fmt::format("/proc/self/fdinfo/{}", process.get()));
  for (std::string word; information >> word;)
    if (int pid = 0; word == "Pid:" && information >> pid)
      return Pid{pid};
  return Pid{0};
}

} // namespace vfio_shim::keeper
