// SPDX-License-Identifier: MIT
#include "cli/doctor/machine.hpp"

#include "cli/doctor/system_files.hpp"
#include "observe/ledger_reader.hpp"

#include <cerrno>

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace vfio_shim::cli::doctor {

namespace {

/// process_vm_readv() of ourselves: 0, or the errno.
int try_cross_memory() {
  char from = 1;
  char to = 0;
  const iovec remote{.iov_base = &from, .iov_len = 1};
  const iovec local{.iov_base = &to, .iov_len = 1};
  return ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == 1 ? 0 : errno;
}

/// kcmp() of ourselves: 0, or the errno.
int try_file_comparison() {
  const auto self = ::getpid();
  return ::syscall(SYS_kcmp, self, self, KCMP_FILES, 0, 0) == 0 ? 0 : errno;
}

std::vector<Machine::Daemon> daemons_that_serve() {
  std::vector<Machine::Daemon> daemons;
  for (const std::string &prefix : observe::LedgerReader::prefixes()) {
    const auto reader = observe::LedgerReader::open(prefix);
    if (reader && reader->daemon().alive)
      daemons.push_back({.pid = reader->daemon().pid, .prefix = prefix});
  }
  return daemons;
}

} // namespace

Machine Machine::at(MachineRoots roots) {
  Machine machine;
  machine.roots = std::move(roots);
  machine.release = first_line(machine.roots.proc / "sys/kernel/osrelease");
  machine.config = KernelConfig::load(machine.roots.proc, machine.roots.boot, machine.release);
  return machine;
}

Machine Machine::here() {
  Machine machine = at({});
  machine.cross_memory_error = try_cross_memory();
  machine.file_comparison_error = try_file_comparison();
  machine.daemons = daemons_that_serve();
  return machine;
}

} // namespace vfio_shim::cli::doctor
