// SPDX-License-Identifier: MIT
#include "cli/backend_option.hpp"

#include <string>
#include <vector>

#include <spdlog/spdlog.h>

namespace vfio_shim::cli {

namespace {

std::vector<std::string> backend_names() {
  std::vector<std::string> names;
  names.reserve(every_backend.size());
  for (const BackendKind kind : every_backend)
    names.emplace_back(backend_name(kind));
  return names;
}

} // namespace

bool BackendChoice::asks_too_much() const {
  if (!given)
    return false;
  const auto there = check_backend(kind);
  if (there)
    return false;
  spdlog::error("{}", there.error().where);
  return true;
}

CLI::Option *add_backend_option(CLI::App &command, BackendChoice &choice) {
  return command
      .add_option_function<std::string>(
          "--backend",
          [&choice](const std::string &name) {
            choice = {.kind = *backend_named(name), .given = true};
          },
          "Where the containers' mappings go")
      ->check(CLI::IsMember(backend_names()))
      ->default_str(std::string(backend_name(choice.kind)));
}

} // namespace vfio_shim::cli
