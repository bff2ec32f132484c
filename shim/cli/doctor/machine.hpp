// SPDX-License-Identifier: MIT
/// @file
/// The machine that is examined.
#pragma once

#include "cli/doctor/kernel_config.hpp"

#include "vfio_shim/topology.hpp"
#include "vfio_shim/units.hpp"

#include <filesystem>
#include <string>
#include <vector>

namespace vfio_shim::cli::doctor {

/// Where a machine shows itself. Another tree serves tests.
struct MachineRoots {
  topology::Roots kernel;
  std::filesystem::path proc = "/proc";
  std::filesystem::path boot = "/boot";
  std::filesystem::path run = "/run";
  std::filesystem::path sbin = "/usr/sbin";
  std::filesystem::path etc = "/etc";
  std::filesystem::path state = "/var/lib/vfio-shim";
  /// The directories that programs are installed in.
  std::vector<std::filesystem::path> programs = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                                 "/usr/bin", "/usr/libexec"};
};

/// The machine to examine. The checks look at nothing else.
struct Machine {
  struct Daemon {
    Pid pid;
    std::string prefix;
  };

  /// Everything that files tell. The rest is left as it is on a machine in order, without a daemon.
  static Machine at(MachineRoots roots);
  /// The machine that this program runs on.
  static Machine here();

  MachineRoots roots;
  std::string release; ///< Of its kernel: "7.2.13-vfio-shim".
  KernelConfig config;
  int cross_memory_error = 0;    ///< The errno of a process_vm_readv(); 0: it works.
  int file_comparison_error = 0; ///< The errno of a kcmp(); 0: it works.
  std::vector<Daemon> daemons;   ///< Those that serve now.
};

} // namespace vfio_shim::cli::doctor
