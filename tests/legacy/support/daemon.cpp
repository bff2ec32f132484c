#include "daemon.h"

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace legacy {
namespace {

namespace fs = std::filesystem;

std::size_t entries_in(const fs::path &directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator{directory}, fs::directory_iterator{}));
}

std::vector<std::string> command_line(const fs::path &process) {
  std::ifstream file{process / "cmdline"};
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');)
    words.push_back(word);
  return words;
}

/// "vfio-shim serve --prefix PREFIX": as tests/inside starts it.
bool serves(const std::vector<std::string> &words, const std::string &prefix) {
  if (words.size() < 2 || !words[0].ends_with("vfio-shim") || words[1] != "serve")
    return false;
  for (std::size_t i = 2; i + 1 < words.size(); ++i)
    if (words[i] == "--prefix")
      return words[i + 1] == prefix;
  return false;
}

pid_t find_daemon(const std::string &prefix) {
  for (const auto &process : fs::directory_iterator{"/proc"}) {
    const std::string name = process.path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec == std::errc{} &&
        serves(command_line(process.path()), prefix))
      return pid;
  }
  throw std::runtime_error{"no daemon serves " + prefix};
}

} // namespace

Daemon::Daemon(const Provider &shim) : pid_{find_daemon(fs::path{shim.groups}.filename())} {}

std::size_t Daemon::descriptors() const {
  return entries_in("/proc/" + std::to_string(pid_) + "/fd");
}

std::size_t Daemon::threads() const {
  return entries_in("/proc/" + std::to_string(pid_) + "/task");
}

DescriptorLimit::DescriptorLimit(const Daemon &daemon, std::size_t most) : pid_{daemon.pid()} {
  if (::prlimit(pid_, RLIMIT_NOFILE, nullptr, &before_) != 0)
    throw std::system_error{errno, std::generic_category(), "prlimit"};
  const rlimit low{most, before_.rlim_max};
  if (::prlimit(pid_, RLIMIT_NOFILE, &low, nullptr) != 0)
    throw std::system_error{errno, std::generic_category(), "prlimit"};
}

DescriptorLimit::~DescriptorLimit() {
  ::prlimit(pid_, RLIMIT_NOFILE, &before_, nullptr);
}

} // namespace legacy
