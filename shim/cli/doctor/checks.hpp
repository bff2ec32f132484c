// SPDX-License-Identifier: MIT
/// @file
/// What `vfio-shim doctor` looks at. Each check looks at one thing of the given machine, and at
/// nothing else.
#pragma once

#include "cli/doctor/finding.hpp"
#include "cli/doctor/machine.hpp"

#include <string>
#include <vector>

namespace vfio_shim::cli::doctor {

Finding check_privileges(const Machine &machine);
/// Whether the ids of clients mean the same to the shim as to the kernel: not so in a container
/// with a PID namespace of its own.
Finding check_pid_namespace(const Machine &machine);
/// Whether nodes in this /dev are everybody's: not so in a container with a /dev of its own.
Finding check_dev(const Machine &machine);
/// Whether a seccomp filter is on the shim.
Finding check_own_filter(const Machine &machine);
/// Looks for a security module that confines the shim by its label.
Finding check_own_label(const Machine &machine);
Finding check_kernel(const Machine &machine);
Finding check_cuse(const Machine &machine);
Finding check_iommufd(const Machine &machine);
Finding check_iommu(const Machine &machine);
Finding check_interrupt_remapping(const Machine &machine);
Finding check_cdev(const Machine &machine);
Finding check_devices(const Machine &machine);
/// Whether there are devices of kinds that cannot be served.
Finding check_kinds(const Machine &machine);
/// Whether all groups that would get a node can be used.
Finding check_viability(const Machine &machine);
/// @param prefix The one that is to be served; "": the default.
Finding check_nodes(const Machine &machine, const std::string &prefix);
/// Whether the nodes keep the device numbers that they have had.
Finding check_numbers(const Machine &machine);
/// Looks for rules of this host that mean the kernel's nodes by their numbers or their subsystem,
/// or look nodes up before the shim's are there.
Finding check_rules(const Machine &machine);
/// Names the programs that start virtual machines here, and says whose nodes they will find.
Finding check_starters(const Machine &machine);
/// Looks for somebody who has a group of the kernel's open.
Finding check_open_nodes(const Machine &machine);
Finding check_client_memory(const Machine &machine);
/// Whether the shim can know its files again in a client.
Finding check_client_descriptors(const Machine &machine);
Finding check_borrowing(const Machine &machine);
Finding check_filtered_clients(const Machine &machine);
Finding check_map_file(const Machine &machine);
Finding check_bar_mapping(const Machine &machine);
Finding check_ledger(const Machine &machine);
Finding check_limits(const Machine &machine);
Finding check_daemon(const Machine &machine, const std::string &prefix);

/// All of them, in an order to mend things in.
std::vector<Finding> examine(const Machine &machine, const std::string &prefix);

} // namespace vfio_shim::cli::doctor
