// SPDX-License-Identifier: MIT
/// @file
/// How a seccomp filter's listener is handed to an agent: as OCI runtimes do.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim::supervise {

/// What the runtime-spec calls the container process state: a JSON object on a stream socket, with
/// descriptors beside it.
struct ProcessState {
  std::size_t listener = 0; ///< Which one of the descriptors it is.
  std::string who;          ///< For the log, printable: "container 8a1f..., pid 123".
};

/// Reads such an object. @return EPROTO: it is none, or has no listener.
Result<ProcessState> parse_process_state(std::string_view json);

/// A listener that somebody has handed over.
struct Handed {
  Fd listener;
  std::string who;
};

/// Takes a listener from a connection. The other end is believed nothing: what it sends is limited,
/// and so is the time that it takes.
/// @return EPROTO: what came is no such object. ETIMEDOUT. EINVAL: the descriptor is no listener.
Result<Handed> take_listener(const Fd &connection, std::chrono::milliseconds patience);

/// Tells who has handed a listener over what has become of it. A runtime does not wait for that.
/// @param why_not "": it is being listened to.
void answer(const Fd &connection, const std::string &why_not = {});

/// Connects to the agent at @p socket. @return ENOENT, ECONNREFUSED: there is none.
Result<Fd> call_agent(const std::filesystem::path &socket);

/// Hands the listener of this process's filter over, and waits until it is listened to.
/// @return ETIMEDOUT, ECONNRESET, EPERM: it is not.
Result<void> hand_listener_over(const Fd &connection, const Fd &listener,
                                std::chrono::milliseconds patience);

} // namespace vfio_shim::supervise
