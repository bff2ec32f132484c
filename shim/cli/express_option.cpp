// SPDX-License-Identifier: MIT
#include "cli/express_option.hpp"

#include <algorithm>
#include <filesystem>
#include <string_view>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cli {

namespace fs = std::filesystem;

bool ExpressChoice::asks_too_much(BackendKind backend) const {
  if (!given || backend == BackendKind::iommufd)
    return false;
  spdlog::error("--express needs --backend {}", backend_name(BackendKind::iommufd));
  return true;
}

std::function<bool(const Client &)> ExpressChoice::predicate() const {
  if (!given)
    return {};
  return [programs = programs](const Client &client) {
    if (programs.empty())
      return true;
    std::error_code error;
    std::string name = fs::read_symlink(fmt::format("/proc/{}/exe", client.pid().value), error);
    constexpr std::string_view replaced = " (deleted)"; // By an upgrade, for example.
    if (name.ends_with(replaced))
      name.resize(name.size() - replaced.size());
    const fs::path program = name;
    return !error && std::ranges::any_of(programs, [&program](const std::string &one) {
      return program == one || program.filename() == one;
    });
  };
}

CLI::Option *add_express_option(CLI::App &command, ExpressChoice &choice) {
  return command
      .add_option_function<std::vector<std::string>>(
          "--express",
          [&choice](const std::vector<std::string> &programs) {
            choice.given = true;
            std::ranges::copy_if(programs, std::back_inserter(choice.programs),
                                 [](const std::string &program) { return !program.empty(); });
          },
          "Let these programs (all, if none is named; by their file's name or path) map memory by "
          "themselves, at the kernel's own speed: from VFIO_SET_IOMMU on their container is an "
          "iommufd, with the kernel's rules instead of type1's")
      ->type_name("PROGRAM")
      ->expected(0, CLI::detail::expected_max_vector_size);
}

} // namespace vfio_shim::cli
