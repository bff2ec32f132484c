// SPDX-License-Identifier: MIT
/// @file
/// Giving a descriptor to a client through its borrowed thread.
#pragma once

#include "client/borrowed_thread.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

namespace vfio_shim::client {

/// A copy of descriptor @p number of the process or thread behind the pidfd @p process.
/// @return EBADF: it has none of that number. ENFILE: we have too many descriptors.
Result<Fd> copy_descriptor(const Fd &process, ClientFd number);

/// Gives @p file to the thread, by way of a socket pair that needs no name and no place which both
/// can see. The pair stays open in the thread's table.
/// @param scratch A page of the client for this.
/// @param process A pidfd of the thread, or of its process.
/// @return Its number there. EMFILE, ENFILE as the client's own open() would.
Result<ClientFd> receive_descriptor(TracedThread &thread, ClientAddr scratch, const Fd &process,
                                    const Fd &file);

/// Gives @p file to the client, as receive_descriptor() does. Close-on-exec.
/// @param process A pidfd of the thread, or of its process.
/// @param least It becomes the lowest free number from this one on; any, if there is none.
/// @return Its number in the client. EMFILE, ENFILE as the client's own open() would.
Result<ClientFd> install_descriptor(BorrowedThread &thread, const Fd &process, const Fd &file,
                                    ClientFd least);

/// Gives @p file to the client in the place of its descriptor @p number, which it closes. What the
/// client has said of close-on-exec stays.
/// @return As install_descriptor(). A thread of the client may have taken @p file on its way.
Result<void> replace_descriptor(BorrowedThread &thread, const Fd &process, const Fd &file,
                                ClientFd number);

} // namespace vfio_shim::client
