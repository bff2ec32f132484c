// SPDX-License-Identifier: MIT
#include "stacks.hpp"

#include <cstdio>
#include <filesystem>
#include <sstream>
#include <string>

#include "text.hpp"

namespace chaos {

namespace {

void print_thread(const std::string &task) {
  const std::string stat = read_file(task + "/stat");
  const auto after_name = stat.rfind(')');
  std::printf("  thread %s (%s) %s\n    wchan %s, syscall %s\n", task.c_str() + 6,
              read_file(task + "/comm").c_str(),
              after_name == std::string::npos ? "gone" : stat.substr(after_name + 2, 1).c_str(),
              read_file(task + "/wchan").c_str(), read_file(task + "/syscall").c_str());
  std::istringstream stack{read_file(task + "/stack")};
  for (std::string line; std::getline(stack, line);)
    std::printf("      %s\n", line.c_str());
}

} // namespace

void print_stacks(const std::vector<pid_t> &processes) {
  for (const pid_t pid : processes) {
    std::printf("process %d\n", pid);
    std::error_code error;
    for (const auto &task : std::filesystem::directory_iterator{text("/proc/%d/task", pid), error})
      print_thread(task.path());
  }
  std::fflush(stdout);
}

std::vector<pid_t> processes_in(const char *cgroup) {
  std::vector<pid_t> processes;
  std::istringstream in{read_file(std::string{cgroup} + "/cgroup.procs")};
  for (pid_t pid = 0; in >> pid;)
    processes.push_back(pid);
  return processes;
}

} // namespace chaos
