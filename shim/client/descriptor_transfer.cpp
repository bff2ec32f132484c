// SPDX-License-Identifier: MIT
#include "client/descriptor_transfer.hpp"

#include "client/process_handle.hpp"

#include "vfio_shim/process_memory.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <iterator>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::client {

namespace {

/// What the borrowed calls point to, at the start of the scratch memory.
struct Layout {
  std::array<int, 2> sockets;
  msghdr message;
  iovec vector;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control;
  char payload;
};
static_assert(sizeof(Layout) <= BorrowedThread::scratch_size);

/// Where the number of the received descriptor will be.
constexpr std::size_t place_of_number = offsetof(Layout, control) + CMSG_LEN(0);

std::uint64_t address_of(ClientAddr scratch, std::size_t offset) {
  return scratch.value + offset;
}

/// The structs of a recvmsg() with one descriptor, with pointers as the client sees them.
Layout receiving_layout(ClientAddr scratch) {
  const auto in_client = [scratch](std::size_t offset) {
    return reinterpret_cast<void *>(address_of(scratch, offset));
  };
  Layout layout{};
  layout.vector = {.iov_base = in_client(offsetof(Layout, payload)), .iov_len = 1};
  layout.message.msg_iov = static_cast<iovec *>(in_client(offsetof(Layout, vector)));
  layout.message.msg_iovlen = 1;
  layout.message.msg_control = in_client(offsetof(Layout, control));
  layout.message.msg_controllen = sizeof(layout.control);
  layout.sockets = {arch::Mending::no_descriptor, arch::Mending::no_descriptor};
  std::memcpy(std::next(layout.control.data(), CMSG_LEN(0)), &arch::Mending::no_descriptor,
              sizeof(arch::Mending::no_descriptor));
  return layout;
}

Result<void> send_descriptor(const Fd &socket, const Fd &file) {
  char payload = 0;
  iovec vector{.iov_base = &payload, .iov_len = 1};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int number = file.get();
  std::memcpy(CMSG_DATA(header), &number, sizeof(number));
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
    return fail(errno == ENOBUFS ? ENOMEM : errno, "sending the descriptor");
  return {};
}

/// The number in the control message that the client has received.
Result<ClientFd> received_number(const Layout &layout) {
  cmsghdr header{};
  std::memcpy(&header, layout.control.data(), sizeof(header));
  // Too many open files in the client: the kernel delivers the message without the descriptor.
  if (header.cmsg_level != SOL_SOCKET || header.cmsg_type != SCM_RIGHTS ||
      header.cmsg_len != CMSG_LEN(sizeof(int)))
    return fail(EMFILE, "no descriptor arrived in the client");
  int number = -1;
  std::memcpy(&number, layout.control.data() + CMSG_LEN(0), sizeof(number));
  return ClientFd{number};
}

/// Sends @p file from our copy of the second socket to the first one, and has the client take it.
Result<ClientFd> pass_through(TracedThread &thread, const Fd &process, const Fd &file,
                              ClientAddr scratch, Layout &layout) {
  const auto our_end = copy_descriptor(process, ClientFd{layout.sockets[1]});
  if (!our_end)
    return pass_on(our_end);
  VFIO_SHIM_TRY(send_descriptor(*our_end, file));
  const auto received =
      thread.system_call(SYS_recvmsg, {static_cast<std::uint64_t>(layout.sockets[0]),
                                       address_of(scratch, offsetof(Layout, message)),
                                       MSG_CMSG_CLOEXEC | MSG_DONTWAIT, 0, 0, 0});
  if (!received)
    return pass_on(received);
  VFIO_SHIM_TRY(read_memory(thread.id(), scratch, std::as_writable_bytes(std::span(&layout, 1))));
  return received_number(layout);
}

/// Has the client make a pair of sockets. @p layout then says which.
Result<void> make_sockets(TracedThread &thread, ClientAddr scratch, Layout &layout) {
  const auto bytes = std::as_writable_bytes(std::span(&layout, 1));
  const auto paired =
      thread.system_call(SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0,
                                          address_of(scratch, offsetof(Layout, sockets)), 0, 0});
  if (!paired)
    return pass_on(paired);
  return read_memory(thread.id(), scratch, bytes);
}

/// A descriptor that has come to the client. It is closed if we die.
struct Arrival {
  ClientFd number;
  const BorrowedThread::Places &places;
};
constexpr std::size_t the_received = 2; ///< Its place among those.

/// Gives @p file to the client, and then does with it what is to be done.
/// @param settle Takes an Arrival, and returns what is asked for.
template <typename Settle>
Result<ClientFd> receive_and(BorrowedThread &thread, const Fd &process, const Fd &file,
                             Settle settle) {
  const auto area = thread.area();
  if (!area)
    return pass_on(area);
  const ClientAddr scratch = area->reception();
  const BorrowedThread::Places places{
      ClientAddr{address_of(scratch, offsetof(Layout, sockets))},
      ClientAddr{address_of(scratch, offsetof(Layout, sockets) + sizeof(int))},
      ClientAddr{address_of(scratch, place_of_number)}};
  Layout layout = receiving_layout(scratch);
  VFIO_SHIM_TRY(write_memory(thread.id(), scratch, std::as_bytes(std::span(&layout, 1))));
  VFIO_SHIM_TRY(thread.close_if_we_die(places));
  if (const auto made = make_sockets(thread, scratch, layout); !made) {
    (void)thread.leave_descriptors(); // The kernel has written numbers that it did not give.
    return pass_on(made);
  }
  const std::array sockets{ClientFd{layout.sockets[0]}, ClientFd{layout.sockets[1]}};

  const auto arrived = pass_through(thread, process, file, scratch, layout);
  // The sockets took the lowest numbers, and every open() promises the lowest one.
  for (std::size_t socket = 0; socket < sockets.size(); ++socket)
    thread.close(places, socket, sockets.at(socket));
  if (!arrived)
    return pass_on(arrived);
  return settle(Arrival{.number = *arrived, .places = places});
}

} // namespace

Result<Fd> copy_descriptor(const Fd &process, ClientFd number) {
  Fd copy{static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number.value, 0U))};
  if (!copy)
    return fail_for_want_of_descriptors("pidfd_getfd");
  // Only a name for a file: the kernel's ioctls do not take it either.
  if ((::fcntl(copy.get(), F_GETFL) & O_PATH) != 0)
    return fail(EBADF, "an O_PATH descriptor");
  return copy;
}

Result<ClientFd> receive_descriptor(TracedThread &thread, ClientAddr scratch, const Fd &process,
                                    const Fd &file) {
  Layout layout = receiving_layout(scratch);
  VFIO_SHIM_TRY(write_memory(thread.id(), scratch, std::as_bytes(std::span(&layout, 1))));
  VFIO_SHIM_TRY(make_sockets(thread, scratch, layout));
  return pass_through(thread, process, file, scratch, layout);
}

Result<ClientFd> install_descriptor(BorrowedThread &thread, const Fd &process, const Fd &file,
                                    ClientFd least) {
  return receive_and(thread, process, file, [&](Arrival arrived) -> Result<ClientFd> {
    const auto wanted = thread.duplicate(arrived.number, least);
    if (!wanted)
      return arrived.number;
    thread.close(arrived.places, the_received, arrived.number);
    return *wanted;
  });
}

Result<void> replace_descriptor(BorrowedThread &thread, const Fd &process, const Fd &file,
                                ClientFd number) {
  const auto replaced =
      receive_and(thread, process, file, [&](Arrival arrived) -> Result<ClientFd> {
        const auto place = static_cast<std::uint64_t>(number.value);
        const auto flags = thread.system_call(SYS_fcntl, {place, F_GETFD, 0, 0, 0, 0});
        const std::uint64_t kept = flags && (*flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0;
        const auto done =
            flags ? thread.system_call(SYS_dup3, {static_cast<std::uint64_t>(arrived.number.value),
                                                  place, kept, 0, 0, 0})
                  : pass_on(flags);
        thread.close(arrived.places, the_received, arrived.number);
        return done ? Result<ClientFd>(number) : pass_on(done);
      });
  return replaced ? Result<void>{} : pass_on(replaced);
}

} // namespace vfio_shim::client
