// SPDX-License-Identifier: MIT
/// @file
/// Which device an open file is of. The errors are of looking (ENOMEM, EMFILE), not of what is
/// there. A path does not tell for long: a node's number is given to the next device as soon as its
/// own is gone.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/topology.hpp"

#include <filesystem>
#include <string>

namespace vfio_shim::topology {

/// The sysfs directory of the character device that @p file is open on; empty if it is none.
Result<std::filesystem::path> sysfs_directory(const Fd &file, const Roots &roots = {});

/// Whether the device whose sysfs directory is @p directory is of class @p name.
Result<bool> is_of_class(const std::filesystem::path &directory, std::string_view name);

/// The name of the device whose VFIO cdev @p file is open on; "" for any other file.
///
/// This stays true for as long as @p file is open: the kernel does not give the cdev's number to
/// another device before.
Result<std::string> device_behind(const Fd &file, const Roots &roots = {});

/// The name of the device that has the VFIO cdev at @p path; "" if there is none. Opens nothing and
/// asks no server of a file system. May be out of date at once.
Result<std::string> device_at(const std::filesystem::path &path, const Roots &roots = {});

/// Opens the cdev of @p device.
/// @return ENODEV: the path leads to another device by now, or to none. The errno of open().
Result<Fd> open_cdev(const Device &device, const Roots &roots = {});

} // namespace vfio_shim::topology
