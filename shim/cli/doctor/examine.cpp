// SPDX-License-Identifier: MIT
#include "cli/doctor/checks.hpp"

namespace vfio_shim::cli::doctor {

std::vector<Finding> examine(const Machine &machine, const std::string &prefix) {
  return {check_privileges(machine),
          check_pid_namespace(machine),
          check_dev(machine),
          check_own_filter(machine),
          check_own_label(machine),
          check_kernel(machine),
          check_cuse(machine),
          check_iommufd(machine),
          check_iommu(machine),
          check_interrupt_remapping(machine),
          check_cdev(machine),
          check_devices(machine),
          check_kinds(machine),
          check_viability(machine),
          check_nodes(machine, prefix),
          check_numbers(machine),
          check_rules(machine),
          check_starters(machine),
          check_open_nodes(machine),
          check_client_memory(machine),
          check_client_descriptors(machine),
          check_borrowing(machine),
          check_filtered_clients(machine),
          check_map_file(machine),
          check_bar_mapping(machine),
          check_ledger(machine),
          check_limits(machine),
          check_daemon(machine, prefix)};
}

} // namespace vfio_shim::cli::doctor
