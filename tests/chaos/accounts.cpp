// SPDX-License-Identifier: MIT
#include "accounts.hpp"

#include <algorithm>

#include <sys/stat.h>

#include "process.hpp"
#include "text.hpp"

namespace chaos {

namespace {

/// Idle workers that the daemon keeps beyond the first: its own choice.
constexpr long idle_workers = 4;

constexpr const char *daemon_threads = "threads of the daemon";
constexpr const char *daemon_memory = "memory of the daemon in KiB";
constexpr const char *daemon_descriptors = "descriptors of the daemon";

/// Pages that are pinned for DMA in the whole machine, by whomever.
long pinned_pages() {
  // The figures in vmstat lag behind by CPU; this makes them exact.
  read_file("/proc/sys/vm/stat_refresh");
  const std::string vmstat = read_file("/proc/vmstat");
  const auto figure = [&](const char *name) {
    return static_cast<long>(number_after(vmstat, name).value_or(0));
  };
  return figure("nr_foll_pin_acquired ") - figure("nr_foll_pin_released ");
}

long huge_pages_in_use() {
  const std::string meminfo = read_file("/proc/meminfo");
  return static_cast<long>(number_after(meminfo, "HugePages_Total:").value_or(0)) -
         static_cast<long>(number_after(meminfo, "HugePages_Free:").value_or(0));
}

/// What debugfs lists of a device's page tables: one line for each mapped page.
long page_table_entries(const legacy::PciDevice &device) {
  const std::string tables =
      read_file("/sys/kernel/debug/iommu/intel/" + device.address + "/domain_translation_struct");
  return std::ranges::count(tables, '\n');
}

bool exists(const std::string &path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

} // namespace

void Accounts::note(const std::string &name, long value, long tolerance) {
  figures_[name] = {value, tolerance};
}

Accounts Accounts::take(const Source &source) {
  Accounts accounts;
  accounts.note("pinned pages", pinned_pages());
  accounts.note("huge pages in use", huge_pages_in_use());
  long missing = 0;
  for (const legacy::PciDevice &device : source.devices) {
    accounts.note("page table entries of " + device.address, page_table_entries(device));
    missing += !exists(source.provider.group_path(device.group));
  }
  accounts.note("nodes missing", missing);
  if (!source.daemon)
    return accounts;
  const Daemon &daemon = *source.daemon;
  accounts.note("daemons dead", !daemon.is_alive());
  long all = 0;
  for (const auto &[kind, count] : daemon.descriptors()) {
    accounts.note("descriptors of the daemon: " + kind, count);
    all += count;
  }
  accounts.note(daemon_descriptors, all);
  accounts.note(daemon_threads, daemon.threads(), idle_workers);
  accounts.note(daemon_memory, daemon.memory_kib(), source.memory_tolerance_kib);
  const auto open_files = daemon.open_files();
  accounts.note("daemon's book that cannot be read", !open_files);
  accounts.note("open files in the daemon's book", open_files.value_or(0));
  return accounts;
}

std::vector<std::string> Accounts::excess_over(const Accounts &before) const {
  std::vector<std::string> lines;
  for (const auto &[name, figure] : figures_) {
    const auto found = before.figures_.find(name);
    const long was = found == before.figures_.end() ? 0 : found->second.value;
    if (figure.value > was + figure.tolerance)
      lines.push_back(text("%s: %ld, was %ld", name.c_str(), figure.value, was));
  }
  return lines;
}

std::string Accounts::summary() const {
  const auto figure = [&](const char *name) {
    const auto found = figures_.find(name);
    return found == figures_.end() ? 0 : found->second.value;
  };
  if (!figures_.contains(daemon_threads))
    return text("pinned pages %ld", figure("pinned pages"));
  return text("pinned pages %ld; daemon: %ld descriptors, %ld threads, %ld KiB",
              figure("pinned pages"), figure(daemon_descriptors), figure(daemon_threads),
              figure(daemon_memory));
}

} // namespace chaos
