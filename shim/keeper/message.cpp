// SPDX-License-Identifier: MIT
#include "keeper/message.hpp"

#include <array>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>

namespace vfio_shim::keeper {

namespace {

constexpr std::size_t longest = 512;

using Control = std::array<std::byte, CMSG_SPACE(sizeof(int))>;

} // namespace

std::string_view Message::value_of(std::string_view name) const {
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (line.starts_with(name) && line.substr(name.size()).starts_with('='))
      return line.substr(name.size() + 1);
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
  }
  return {};
}

Result<void> send(const Fd &socket, std::string_view text, int file) {
  iovec vector{.iov_base = const_cast<char *>(text.data()), // NOLINT(*-const-cast): it is read.
               .iov_len = text.size()};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (file >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &file, sizeof(file));
  }
  ssize_t sent = 0;
  do
    sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0)
    return fail(errno == ENOBUFS        ? ENOMEM
                : errno == ETOOMANYREFS ? ENFILE
                                        : errno,
                "telling the keeper");
  return {};
}

Result<Message> receive(const Fd &socket) {
  Message received{.text = std::string(longest, '\0'), .file = {}};
  iovec vector{.iov_base = received.text.data(), .iov_len = received.text.size()};
  alignas(cmsghdr) Control control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0)
    return fail_errno("hearing the worker");
  if (size == 0)
    return fail(EPIPE, "hearing the worker");
  received.text.resize(static_cast<std::size_t>(size));
  const cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int file = -1;
    std::memcpy(&file, CMSG_DATA(header), sizeof(file));
    received.file.reset(file);
  }
  return received;
}

} // namespace vfio_shim::keeper
