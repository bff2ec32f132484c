// SPDX-License-Identifier: MIT
#include "cli/own_program.hpp"

#include <filesystem>
#include <fstream>

#include <sys/wait.h>
#include <unistd.h>

namespace vfio_shim::cli {

std::string own_program() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).string();
}

std::vector<std::string> own_command_line() {
  std::ifstream file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');)
    words.push_back(word);
  if (!words.empty())
    words.front() = own_program();
  return words;
}

namespace {

Error become(const std::string &program, const std::vector<std::string> &arguments) {
  std::vector<char *> pointers{const_cast<char *>("vfio-shim")};
  for (const std::string &argument : arguments)
    pointers.push_back(const_cast<char *>(argument.c_str()));
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  return {.code = errno, .where = "cannot run " + program};
}

} // namespace

Error become_own_program(const std::vector<std::string> &arguments) {
  return become(own_program(), arguments);
}

Result<int> run_own_program(const std::vector<std::string> &arguments) {
  return run_program(own_program(), arguments);
}

Result<int> run_program(const std::string &program, const std::vector<std::string> &arguments) {
  const pid_t child = ::fork();
  if (child < 0)
    return fail_errno("fork");
  if (child == 0) {
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    (void)become(program, arguments);
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR)
    continue;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

} // namespace vfio_shim::cli
