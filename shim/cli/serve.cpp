// SPDX-License-Identifier: MIT
#include "cli/backend_option.hpp"
#include "cli/command_line.hpp"
#include "cli/express_option.hpp"
#include "cli/limit_options.hpp"
#include "cli/observing_options.hpp"
#include "cli/own_program.hpp"

#include <memory>
#include <string>
#include <vector>

#include <grp.h>
#include <pwd.h>
#include <spdlog/spdlog.h>

#include "daemon/daemon.hpp"
#include "daemon/prefix.hpp"

namespace vfio_shim::cli {

namespace {

struct ServeOptions {
  daemon::DaemonOptions daemon;
  BackendChoice backend;
  Limits limits;
  ExpressChoice express;
  std::string container_mode = "0666";
  std::string group_mode = "0600";
  std::vector<std::string> devices;
  std::vector<std::string> left_out;
  std::string owner;
  std::string group;
  std::string log_level = "info";
  bool names_prefix = false;
};

/// Octal, as chmod takes it.
const CLI::Validator file_mode(
    [](std::string &text) {
      const bool octal = !text.empty() && text.size() <= 4 &&
                         text.find_first_not_of("01234567") == std::string::npos;
      return octal ? std::string{} : "not an octal file mode: " + text;
    },
    "MODE");

mode_t parse_mode(const std::string &text) {
  return static_cast<mode_t>(std::stoul(text, nullptr, 8));
}

Result<uid_t> find_user(const std::string &name) {
  if (const passwd *entry = ::getpwnam(name.c_str()))
    return entry->pw_uid;
  return fail(ENOENT, "no user is called " + name);
}

Result<gid_t> find_user_group(const std::string &name) {
  if (const ::group *entry = ::getgrnam(name.c_str()))
    return entry->gr_gid;
  return fail(ENOENT, "no user group is called " + name);
}

/// Owner, group and modes go to the group nodes; the container is everybody's as in the kernel.
Result<void> apply_permissions(ServeOptions &options) {
  auto &server = options.daemon.server;
  server.container.mode = parse_mode(options.container_mode);
  server.groups.mode = parse_mode(options.group_mode);
  if (!options.owner.empty()) {
    const auto owner = find_user(options.owner);
    if (!owner)
      return pass_on(owner);
    server.container.owner = server.groups.owner = *owner;
  }
  if (!options.group.empty()) {
    const auto group = find_user_group(options.group);
    if (!group)
      return pass_on(group);
    server.container.group = server.groups.group = *group;
  }
  return {};
}

int serve(ServeOptions options) {
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  if (options.express.asks_too_much(options.backend.kind) || options.backend.asks_too_much())
    return exit_usage;
  options.daemon.server.backend = options.backend.kind;
  options.daemon.server.mapping_limit = options.limits.mappings;
  options.daemon.server.iova_window = options.limits.iova_window;
  options.daemon.server.express = options.express.predicate();
  if (options.daemon.take_over)
    options.daemon.server.prefix = "vfio";
  const bool by_exception = !options.left_out.empty();
  options.daemon.server.groups_to_serve = {
      .devices = by_exception ? options.left_out : options.devices, .left_out = by_exception};
  options.daemon.command = own_command_line();
  if (!options.names_prefix && !options.daemon.take_over) { // It may be another one by then.
    options.daemon.command.emplace_back("--prefix");
    options.daemon.command.push_back(options.daemon.server.prefix);
  }
  options.daemon.may_follow = [&options] {
    const auto status =
        run_program(options.daemon.command.front(),
                    {"upgrade", "--check", "--prefix", options.daemon.server.prefix});
    return status.value_or(exit_failure) == exit_ok;
  };
  const auto permitted = apply_permissions(options);
  const auto done = permitted ? daemon::run_daemon(options.daemon) : pass_on(permitted);
  if (!done) {
    spdlog::error("{}", done.error().where);
    return exit_failure;
  }
  return *done;
}

} // namespace

void add_serve(CommandLine &line) {
  auto options = std::make_shared<ServeOptions>();
  options->daemon.server.prefix = daemon::default_prefix();
  auto *command = line.app.add_subcommand(
      "serve", "Put the legacy nodes under /dev and serve them until SIGTERM");
  auto *prefix = command
                     ->add_option("--prefix", options->daemon.server.prefix,
                                  "Directory of the nodes below /dev")
                     ->capture_default_str();
  command
      ->add_flag("--take-over", options->daemon.take_over,
                 "Take the place of the kernel's own nodes in /dev/vfio, for the whole host; they "
                 "come back when this ends, and after it was killed with `vfio-shim release`")
      ->excludes(prefix);
  const auto full_name = [](std::string &name) {
    name = cuse::full_device_name(name);
    return name.empty() || name.find('/') != std::string::npos ? "not a device: " + name : "";
  };
  auto *only = command
                   ->add_option("--devices", options->devices,
                                "Serve the groups of these devices only, separated by commas "
                                "(0000:03:00.0). With --take-over the others stay with the kernel")
                   ->delimiter(',')
                   ->transform(CLI::Validator(full_name, "DEVICE"));
  command
      ->add_option("--except", options->left_out,
                   "Serve all groups but those of these devices, which stay with the kernel")
      ->delimiter(',')
      ->transform(CLI::Validator(full_name, "DEVICE"))
      ->excludes(only);
  command->add_option("--container-mode", options->container_mode, "Mode of the container node")
      ->check(file_mode)
      ->capture_default_str();
  command->add_option("--group-mode", options->group_mode, "Mode of the group nodes")
      ->check(file_mode)
      ->capture_default_str();
  command->add_option("--owner", options->owner, "User that owns the nodes (root)");
  command->add_option("--group", options->group, "User group of the nodes (root)");
  command
      ->add_option("--containers-per-user", options->daemon.server.container_limits.per_user,
                   "Containers that one user other than root may have open")
      ->capture_default_str();
  add_limit_options(*command, options->limits);
  add_backend_option(*command, options->backend);
  add_express_option(*command, options->express);
  command->add_flag("--wait-for-devices", options->daemon.wait_for_devices,
                    "Start even if no device is bound to a vfio driver yet");
  command->add_option("--cdi", options->daemon.cdi_directory,
                      "Keep a file in this directory that tells container engines of the groups, "
                      "for `podman run --device` (/run/cdi)");
  options->daemon.supervise_others = true;
  command->add_flag_callback(
      "--no-agent", [options] { options->daemon.supervise_others = false; },
      "Supervise no programs of others: neither `run` without privilege, nor containers whose "
      "runtime asks for it");
  add_observing_options(*command, options->daemon.observing);
  command->add_option("--log-level", options->log_level, "What to log to stderr")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
  command->callback([&line, options, prefix] {
    options->names_prefix = prefix->count() > 0;
    line.chosen = [options] { return serve(*options); };
  });
}

} // namespace vfio_shim::cli
