// SPDX-License-Identifier: MIT
#pragma once

namespace legacy {

/// Confines the calling thread, and those that it starts, with a seccomp filter: socket() is EPERM.
/// Throws std::system_error.
void deny_oneself_sockets();

/// The same, with death for what a daemon has a borrowed thread do: to make sockets and receive
/// descriptors, and to ask iommufd for anything. Throws std::system_error.
void forbid_oneself_borrowed_calls();

} // namespace legacy
