// SPDX-License-Identifier: MIT
#include "vfio_shim/command_name.hpp"

#include "vfio_shim/printable.hpp"

#include <fstream>
#include <string>

namespace vfio_shim {

std::string command_name(Pid process, const std::filesystem::path &proc) {
  std::ifstream file(proc / std::to_string(process.value) / "comm");
  std::string name;
  // Unlike an istreambuf_iterator, it does not throw if the process has gone, or reading fails.
  std::getline(file, name, '\0');
  if (name.ends_with('\n')) // The kernel's; another may be the process's.
    name.pop_back();
  return printable(name);
}

} // namespace vfio_shim
