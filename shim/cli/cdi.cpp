// SPDX-License-Identifier: MIT
#include "daemon/cdi.hpp"

#include "cli/command_line.hpp"

#include <iostream>
#include <memory>
#include <string>

#include <spdlog/spdlog.h>

#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

using daemon::CdiApi;

constexpr const char *standard_output = "-";
constexpr const char *legacy = "legacy";
constexpr const char *iommufd = "iommufd";

struct CdiOptions {
  CdiApi api = CdiApi::legacy;
  std::string prefix = daemon::default_prefix();
  std::string output = standard_output;
};

Result<void> print_or_write(const CdiOptions &options) {
  const auto groups = topology::groups();
  if (!groups)
    return pass_on(groups);
  if (groups->empty())
    return fail(ENODEV, "no device is bound to a vfio driver: `vfio-shim doctor` says how");
  const auto specification = daemon::cdi_specification(options.api, *groups, options.prefix);
  if (options.output != standard_output)
    return daemon::write_cdi_file(options.output, specification);
  std::cout << specification.dump(2) << '\n';
  return {};
}

int cdi(const CdiOptions &options) {
  const auto done = print_or_write(options);
  if (!done) {
    spdlog::error("{}", done.error().code == ENODEV ? done.error().where : done.error().describe());
    return exit_failure;
  }
  return exit_ok;
}

} // namespace

void add_cdi(CommandLine &line) {
  auto options = std::make_shared<CdiOptions>();
  auto *command = line.app.add_subcommand(
      "cdi", "Tell container engines of the groups that there are now, for `podman run --device`; "
             "`serve --cdi` does it all the time");
  command
      ->add_option_function<std::string>(
          "--api",
          [options](const std::string &name) {
            options->api = name == iommufd ? CdiApi::iommufd : CdiApi::legacy;
          },
          "What programs in the container use: the shim's nodes, or the kernel's iommufd")
      ->check(CLI::IsMember({legacy, iommufd}))
      ->default_str(legacy);
  command
      ->add_option("--prefix", options->prefix,
                   "Directory below /dev of the nodes for the legacy API")
      ->capture_default_str();
  command
      ->add_option("--output", options->output,
                   "File to write, /etc/cdi/vfio-shim.json for example; - prints")
      ->capture_default_str();
  command->callback([&line, options] { line.chosen = [options] { return cdi(*options); }; });
}

} // namespace vfio_shim::cli
