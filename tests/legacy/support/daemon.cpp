// SPDX-License-Identifier: MIT
#include "daemon.h"

#include "client/answer.h"

#include <array>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>

namespace legacy {
namespace {

namespace fs = std::filesystem;

/// The first line that a command prints.
std::string first_line_of(const std::string &command) {
  const auto close = [](std::FILE *output) { ::pclose(output); };
  const std::unique_ptr<std::FILE, decltype(close)> output{::popen(command.c_str(), "r"), close};
  std::array<char, 512> line{};
  if (!output || std::fgets(line.data(), line.size(), output.get()) == nullptr)
    throw std::runtime_error{command + " prints nothing"};
  return line.data();
}

std::size_t entries_in(pid_t process, const std::string &directory) {
  const fs::directory_iterator entries{"/proc/" + std::to_string(process) + "/" + directory};
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

} // namespace

pid_t daemon_of(const Provider &provider) {
  // The program lies beside this one; its first line is "vfio-shim (pid 12, worker 13) serves ...".
  const fs::path shim = fs::read_symlink("/proc/self/exe").parent_path() / "vfio-shim";
  const std::string prefix = fs::relative(provider.groups, "/dev").string();
  const std::string line = first_line_of(shim.string() + " status --prefix " + prefix);
  pid_t keeper = 0, pid = 0;
  // NOLINTNEXTLINE(cert-err34-c)
  if (std::sscanf(line.c_str(), "vfio-shim (pid %d, worker %d) serves", &keeper, &pid) != 2)
    throw std::runtime_error{"no daemon serves " + provider.groups + ": " + line};
  return pid;
}

std::size_t threads_of(pid_t process) {
  return entries_in(process, "task");
}

std::size_t descriptors_of(pid_t process) {
  return entries_in(process, "fd");
}

DescriptorLimit::DescriptorLimit(pid_t process, std::size_t limit) : process_{process} {
  rlimit now{};
  if (::prlimit(process, RLIMIT_NOFILE, nullptr, &before_) != 0)
    throw_errno("prlimit");
  now = {limit, before_.rlim_max};
  if (::prlimit(process, RLIMIT_NOFILE, &now, nullptr) != 0)
    throw_errno("prlimit");
}

DescriptorLimit::~DescriptorLimit() {
  ::prlimit(process_, RLIMIT_NOFILE, &before_, nullptr);
}

} // namespace legacy
