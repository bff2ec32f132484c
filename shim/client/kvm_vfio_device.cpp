// SPDX-License-Identifier: MIT
#include "client/kvm_vfio_device.hpp"

#include "client/client_area.hpp"
#include "client/descriptor_transfer.hpp"

#include "vfio_shim/process_memory.hpp"

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <span>

#include <fmt/format.h>
#include <sys/syscall.h>

namespace vfio_shim::client {

namespace {

namespace fs = std::filesystem;

static_assert(sizeof(KvmFileArgument) <= ClientArea::scratch_size);

bool leads_to_kvm_vfio_device(const fs::path &link) {
  std::error_code error;
  return fs::read_symlink(link, error) == "anon_inode:kvm-vfio" && !error;
}

/// The descriptors of @p thread that seem to be such devices: at most @p most of them.
std::vector<ClientFd> numbers_of_devices(int thread, std::size_t most) {
  constexpr int most_looked_at = 4096;
  std::vector<ClientFd> numbers;
  int looked_at = 0;
  std::error_code error;
  for (fs::directory_iterator entry(fmt::format("/proc/{}/fd", thread), error), end;
       !error && entry != end && looked_at < most_looked_at && numbers.size() < most;
       entry.increment(error), ++looked_at)
    if (leads_to_kvm_vfio_device(entry->path()))
      numbers.push_back(ClientFd{std::atoi(entry->path().filename().c_str())});
  return numbers;
}

} // namespace

bool is_kvm_vfio_device(const Fd &file) {
  return leads_to_kvm_vfio_device(fmt::format("/proc/self/fd/{}", file.get()));
}

bool has_kvm_vfio_device(Pid process) {
  return !numbers_of_devices(process.value, 1).empty();
}

std::vector<Fd> kvm_vfio_devices_of(Tid thread, const Fd &handle) {
  constexpr std::size_t most_machines = 8;
  std::vector<Fd> devices;
  for (const ClientFd number : numbers_of_devices(thread.value, most_machines))
    if (auto copy = copy_descriptor(handle, number); copy && is_kvm_vfio_device(*copy))
      devices.push_back(std::move(*copy));
  return devices;
}

Result<void> set_kvm_file(TracedThread &thread, ClientAddr scratch, ClientFd kvm,
                          kvm_device_attr attribute, ClientFd file) {
  attribute.addr = scratch.value + offsetof(KvmFileArgument, file);
  const KvmFileArgument argument{.attribute = attribute, .file = file.value};
  VFIO_SHIM_TRY(write_memory(thread.id(), scratch, std::as_bytes(std::span(&argument, 1))));
  VFIO_SHIM_TRY(thread.system_call(SYS_ioctl, {static_cast<std::uint64_t>(kvm.value),
                                               KVM_SET_DEVICE_ATTR, scratch.value, 0, 0, 0}));
  return {};
}

} // namespace vfio_shim::client
