// SPDX-License-Identifier: MIT
#include "supervise/process_state.hpp"

#include "vfio_shim/printable.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace vfio_shim::supervise {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

/// Runtimes put a container's annotations into the object.
constexpr std::size_t longest_message = std::size_t{256} << 10U;
constexpr std::size_t most_descriptors = 8;
/// What runtime-spec calls a filter's listener.
constexpr const char *listener_name = "seccompFd";

/// Waits until there is something to read. @return ETIMEDOUT.
Result<void> await(const Fd &connection, Clock::time_point deadline) {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
      return fail(ETIMEDOUT, "it takes too long");
    pollfd poll{.fd = connection.get(), .events = POLLIN, .revents = 0};
    if (::poll(&poll, 1, static_cast<int>(left.count())) > 0)
      return {};
  }
}

struct Received {
  std::string text;
  std::vector<Fd> files;
};

void take_files(msghdr &message, std::vector<Fd> &files) {
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
      continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t at = 0; at < count; ++at) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + at * sizeof(int), sizeof(number));
      files.emplace_back(number);
    }
  }
}

/// Reads what comes next. @return False: it was the end.
Result<bool> receive_more(const Fd &connection, Received &received) {
  std::array<char, 4096> text{};
  iovec vector{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_descriptors * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(connection.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0)
    return errno == EAGAIN || errno == EINTR ? Result<bool>(true) : fail_errno("recvmsg");
  take_files(message, received.files);
  received.text.append(text.data(), static_cast<std::size_t>(size));
  if ((message.msg_flags & MSG_CTRUNC) != 0 || received.files.size() > most_descriptors ||
      received.text.size() > longest_message)
    return fail(EPROTO, "too much");
  return size != 0;
}

/// Who sends says by closing the connection that this is all.
Result<Received> receive_all(const Fd &connection, Clock::time_point deadline) {
  Received received;
  for (;;) {
    VFIO_SHIM_TRY(await(connection, deadline));
    const auto more = receive_more(connection, received);
    if (!more)
      return pass_on(more);
    if (!*more)
      return received;
  }
}

bool is_listener(const Fd &file) {
  std::error_code error;
  return std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", file.get()), error) ==
         "anon_inode:seccomp notify";
}

/// A text of the object, or "".
std::string text_at(const Json &object, const char *key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

} // namespace

Result<ProcessState> parse_process_state(std::string_view json) {
  const Json object = Json::parse(json, nullptr, false);
  const auto names = object.is_object() ? object.find("fds") : object.end();
  if (names == object.end() || !names->is_array())
    return fail(EPROTO, "not a container process state");
  const auto listener = std::ranges::find(*names, Json(listener_name));
  if (listener == names->end())
    return fail(EPROTO, "no seccompFd");
  ProcessState state{.listener = static_cast<std::size_t>(listener - names->begin()), .who = {}};
  const auto container = object.find("state");
  const std::string id =
      container != object.end() && container->is_object() ? text_at(*container, "id") : "";
  const auto pid = object.find("pid");
  const std::string process = pid != object.end() && pid->is_number_integer()
                                  ? fmt::format("pid {}", pid->get<std::int64_t>())
                                  : "no pid";
  constexpr std::size_t longest_id = 64;
  state.who = id.empty()
                  ? process
                  : fmt::format("container {}, {}", printable(id.substr(0, longest_id)), process);
  return state;
}

Result<Handed> take_listener(const Fd &connection, std::chrono::milliseconds patience) {
  auto received = receive_all(connection, Clock::now() + patience);
  if (!received)
    return pass_on(received);
  auto state = parse_process_state(received->text);
  if (!state)
    return pass_on(state);
  if (state->listener >= received->files.size())
    return fail(EPROTO, "fewer descriptors than names");
  Fd listener = std::move(received->files[state->listener]);
  if (!is_listener(listener))
    return fail(EINVAL, "not the listener of a seccomp filter");
  return Handed{.listener = std::move(listener), .who = std::move(state->who)};
}

void answer(const Fd &connection, const std::string &why_not) {
  const std::string line = why_not + '\n';
  (void)::send(connection.get(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

Result<Fd> call_agent(const std::filesystem::path &socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = socket;
  if (path.size() >= sizeof(address.sun_path))
    return fail(ENAMETOOLONG, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd connection{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!connection || ::connect(connection.get(), reinterpret_cast<const sockaddr *>(&address),
                               sizeof(address)) != 0)
    return fail_errno(path);
  return connection;
}

Result<void> hand_listener_over(const Fd &connection, const Fd &listener,
                                std::chrono::milliseconds patience) {
  constexpr const char *spec = "1.0.2";
  const std::string json = Json({{"ociVersion", spec},
                                 {"fds", {listener_name}},
                                 {"pid", ::getpid()},
                                 {"metadata", "vfio-shim run"},
                                 {"state",
                                  {{"ociVersion", spec},
                                   {"id", ""},
                                   {"status", "creating"},
                                   {"pid", ::getpid()},
                                   {"bundle", ""}}}})
                               .dump();
  std::string text = json;
  iovec vector{.iov_base = text.data(), .iov_len = text.size()};
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
  const int number = listener.get();
  std::memcpy(CMSG_DATA(header), &number, sizeof(number));
  if (::sendmsg(connection.get(), &message, MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    return fail_errno("handing the listener over");
  ::shutdown(connection.get(), SHUT_WR);
  VFIO_SHIM_TRY(await(connection, Clock::now() + patience));
  std::array<char, 256> answer{};
  const ssize_t size = ::read(connection.get(), answer.data(), answer.size());
  if (size <= 0)
    return fail(ECONNRESET, "nobody listens: too many programs are supervised");
  if (size > 1)
    return fail(EPERM, printable({answer.data(), static_cast<std::size_t>(size) - 1}));
  return {};
}

} // namespace vfio_shim::supervise
