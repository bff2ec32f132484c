// SPDX-License-Identifier: MIT
/// @file
/// KVM's device for VFIO files, as it is open in a client.
#pragma once

#include "client/traced_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <vector>

#include <linux/kvm.h>

namespace vfio_shim::client {

/// Whether @p file is open on such a device.
bool is_kvm_vfio_device(const Fd &file);

/// Whether the process has one open, as far as can be seen: the descriptors of a process whose
/// first thread has ended cannot be.
bool has_kvm_vfio_device(Pid process);

/// Copies of those that the thread's process has open. A copy keeps the machine alive.
///
/// Looks at as many descriptors as programs have that run machines: a process with very many others
/// before them is taken for one without.
/// @param handle A pidfd of @p thread.
std::vector<Fd> kvm_vfio_devices_of(Tid thread, const Fd &handle);

/// What KVM_SET_DEVICE_ATTR points to, and what that points to, in the client's memory.
struct KvmFileArgument {
  kvm_device_attr attribute;
  std::int32_t file;
};

/// Has the thread issue KVM_SET_DEVICE_ATTR. KVM takes it only from the process whose machine it
/// is, which it knows by its memory.
/// @param scratch Memory of the client for the argument.
/// @param attribute KVM_DEV_VFIO_GROUP with _ADD or _DEL; `addr` does not matter.
/// @return What KVM answers: EEXIST, ENOENT; EIO: it is another process's machine.
Result<void> set_kvm_file(TracedThread &thread, ClientAddr scratch, ClientFd kvm,
                          kvm_device_attr attribute, ClientFd file);

} // namespace vfio_shim::client
