// SPDX-License-Identifier: MIT
/// @file
/// What a worker tells its keeper: in the words of sd_notify(3), so that a service manager
/// understands most of it, too.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <string>
#include <string_view>

namespace vfio_shim::keeper {

/// One message: lines, and at most one file.
struct Message {
  std::string text;
  Fd file;

  /// What stands behind "NAME=", up to the line's end; "" if there is no such line.
  std::string_view value_of(std::string_view name) const;
};

// The names of lines.
inline constexpr std::string_view store_line = "FDSTORE";        ///< 1: keep the file,
inline constexpr std::string_view remove_line = "FDSTOREREMOVE"; ///< 1: or drop it, and say so.
inline constexpr std::string_view name_line = "FDNAME";          ///< The file's name.
inline constexpr std::string_view ready_line = "READY";          ///< 1: the worker serves.
inline constexpr std::string_view stopping_line = "STOPPING";    ///< 1: it ends, and is to.
/// 1: the file tells of the worker's end. It is a pidfd of a thread that waits for nothing: others
/// may wait for the next worker, and so the process may not end before.
inline constexpr std::string_view life_line = "X_VFIO_SHIM_LIFE";

/// 1: drop all files, and say so.
inline constexpr std::string_view forget_line = "X_VFIO_SHIM_FORGET";
/// 1: if the worker dies, no other one can go on.
inline constexpr std::string_view mortal_line = "X_VFIO_SHIM_MORTAL";

/// Sends a message. @return ENOMEM; ENFILE: too many files are under way. The errno of sendmsg().
Result<void> send(const Fd &socket, std::string_view text, int file = -1);

/// Takes the next message. @return EAGAIN: there is none. EPIPE: there will be none.
Result<Message> receive(const Fd &socket);

} // namespace vfio_shim::keeper
