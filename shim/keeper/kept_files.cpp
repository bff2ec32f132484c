// SPDX-License-Identifier: MIT
#include "keeper/kept_files.hpp"

#include <cstdlib>
#include <sstream>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

namespace vfio_shim::keeper {

namespace {

/// Names the descriptor of a list: lines of a name, a blank and a descriptor.
constexpr const char *variable = "VFIO_SHIM_KEPT_FILES";

bool set_close_on_exec(int file, bool on) {
  return ::fcntl(file, F_SETFD, on ? FD_CLOEXEC : 0) == 0;
}

std::string read_all(const Fd &file) {
  constexpr std::size_t piece = 65536;
  std::string text;
  for (;;) {
    std::string more(piece, '\0');
    const ssize_t count =
        ::pread(file.get(), more.data(), more.size(), static_cast<off_t>(text.size()));
    if (count <= 0)
      return text;
    text.append(more, 0, static_cast<std::size_t>(count));
  }
}

KeptFiles from_list(const char *descriptor) {
  KeptFiles files;
  const Fd list{std::atoi(descriptor)};
  std::istringstream lines(read_all(list));
  std::string name;
  int number = -1;
  while (lines >> name >> number)
    if (set_close_on_exec(number, true))
      files.emplace(name, Fd{number});
  return files;
}

KeptFiles from_service_manager() {
  KeptFiles files;
  char **names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  for (int at = 0; at < count; ++at) {
    set_close_on_exec(SD_LISTEN_FDS_START + at, true);
    files.emplace(names[at], Fd{SD_LISTEN_FDS_START + at}); // NOLINT(*-pointer-arithmetic)
    std::free(names[at]); // NOLINT(*-no-malloc,*-owning-memory,*-pointer-arithmetic)
  }
  std::free(static_cast<void *>(names)); // NOLINT(*-no-malloc,*-owning-memory)
  return files;
}

} // namespace

KeptFiles files_of_last_program() {
  const char *list = std::getenv(variable); // NOLINT(concurrency-mt-unsafe): there is one thread.
  KeptFiles files = list != nullptr ? from_list(list) : from_service_manager();
  ::unsetenv(variable); // NOLINT(concurrency-mt-unsafe)
  return files;
}

Result<void> leave_to_next_program(const KeptFiles &files) {
  Fd list{::memfd_create("vfio-shim-kept-files", 0)};
  if (!list)
    return fail_errno("memfd_create");
  std::string text;
  for (const auto &[name, file] : files) {
    text += fmt::format("{} {}\n", name, file.get());
    if (!set_close_on_exec(file.get(), false))
      return fail_errno("F_SETFD");
  }
  if (::write(list.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno("writing the list of kept files");
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (::setenv(variable, std::to_string(list.release()).c_str(), 1) != 0)
    return fail_errno("setenv");
  return {};
}

void keep_from_next_program(const KeptFiles &files) {
  for (const auto &[name, file] : files)
    set_close_on_exec(file.get(), true);
  if (const char *list = std::getenv(variable)) // NOLINT(concurrency-mt-unsafe)
    Fd{std::atoi(list)}.reset();
  ::unsetenv(variable); // NOLINT(concurrency-mt-unsafe)
}

} // namespace vfio_shim::keeper
