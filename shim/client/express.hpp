// SPDX-License-Identifier: MIT
/// @file
/// Clients that map by themselves, on the iommufd that lies where their container's file was
/// (`--express`): putting the file back.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <filesystem>
#include <vector>

#include <sys/ioctl.h>

namespace vfio_shim::client {

/// Has an open file of the container node stand for the container of an iommufd, whose number in
/// the caller is the argument. Whoever holds the iommufd may. ENOENT: it is no container's. Outside
/// the range of numbers that VFIO uses.
inline constexpr unsigned int stand_for_iommufd = _IO('S', 0xf1);

/// Tells if @p file is an iommufd.
bool is_iommufd(const Fd &file);

/// A new file of the container whose client has @p iommufd in its place.
/// @param node The daemon's container node.
/// @return ENOENT: there is no such container.
Result<Fd> file_of_container(const std::filesystem::path &node, const Fd &iommufd);

/// Puts files of their containers where the process has iommufds. Only the process itself is looked
/// at, not those which it shares descriptors with.
/// @param node The daemon's container node.
/// @return The descriptors that are containers' files again. ESRCH: no such process. EAGAIN: no
///         thread of it waits for anything now. EBUSY: it is being traced.
Result<std::vector<ClientFd>> end_express(const std::filesystem::path &node, Pid process);

} // namespace vfio_shim::client
