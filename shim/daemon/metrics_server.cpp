// SPDX-License-Identifier: MIT
#include "daemon/metrics_server.hpp"

#include <cstring>
#include <string_view>

#include <fmt/format.h>
#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "daemon/metrics.hpp"

namespace vfio_shim::daemon {

namespace {

constexpr int waiting_connections = 16;
constexpr unsigned most_connections = 16;
constexpr unsigned patience_seconds = 5;

Result<Fd> listen_on(Fd socket, const sockaddr *address, socklen_t size, const std::string &name) {
  if (!socket || ::bind(socket.get(), address, size) != 0 ||
      ::listen(socket.get(), waiting_connections) != 0)
    return fail(errno, fmt::format("cannot serve metrics at {}: {}", name, errno_name(errno)));
  return socket;
}

/// A socket that a dead daemon has left is replaced; anything else at that path is not ours.
Result<Fd> listen_at_path(const std::string &path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.size() >= sizeof(address.sun_path))
    return fail(EINVAL, fmt::format("cannot serve metrics at {}: the path is too long", path));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  struct stat there {};
  if (::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode))
    ::unlink(path.c_str());
  return listen_on(Fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)},
                   reinterpret_cast<const sockaddr *>(&address), sizeof(address), path);
}

struct FreeAddresses {
  void operator()(addrinfo *list) const { ::freeaddrinfo(list); }
};

Result<Fd> listen_at_port(const std::string &text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos)
    return fail(EINVAL, fmt::format("cannot serve metrics at {}: it is neither [HOST]:PORT nor a "
                                    "path",
                                    text));
  std::string host = text.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') // An IPv6 address.
    host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo *found = nullptr;
  const int failed = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), text.c_str() + colon + 1,
                                   &hints, &found);
  if (failed != 0)
    return fail(EINVAL,
                fmt::format("cannot serve metrics at {}: {}", text, ::gai_strerror(failed)));
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  Fd socket{::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const int yes = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  return listen_on(std::move(socket), list->ai_addr, list->ai_addrlen, text);
}

MHD_Result reply(MHD_Connection *connection, unsigned status, std::string_view text,
                 const char *type) {
  MHD_Response *response = MHD_create_response_from_buffer(
      text.size(), const_cast<char *>(text.data()), MHD_RESPMEM_MUST_COPY);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
  const MHD_Result queued = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return queued;
}

MHD_Result on_request(void *server, MHD_Connection *connection, const char *url, const char *method,
                      const char * /*version*/, const char * /*body*/, std::size_t *body_size,
                      void ** /*state*/) {
  *body_size = 0; // Whatever it is, nobody wants it.
  if (std::string_view(method) != MHD_HTTP_METHOD_GET)
    return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET only\n", "text/plain");
  if (std::string_view(url) != "/metrics")
    return reply(connection, MHD_HTTP_NOT_FOUND, "It is all at /metrics\n", "text/plain");
  return reply(connection, MHD_HTTP_OK, static_cast<MetricsServer *>(server)->answer(),
               "text/plain; version=0.0.4; charset=utf-8");
}

} // namespace

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string &address,
                                                            observe::LedgerReader ledger) {
  const bool is_path = address.find('/') != std::string::npos;
  auto listening = is_path ? listen_at_path(address) : listen_at_port(address);
  if (!listening)
    return pass_on(listening);
  std::unique_ptr<MetricsServer> server(new MetricsServer(std::move(ledger)));
  if (is_path)
    server->socket_ = address;
  server->http_ = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, nullptr, nullptr, on_request,
                                   server.get(), MHD_OPTION_LISTEN_SOCKET, listening->get(),
                                   MHD_OPTION_CONNECTION_LIMIT, most_connections,
                                   MHD_OPTION_CONNECTION_TIMEOUT, patience_seconds, MHD_OPTION_END);
  if (server->http_ == nullptr)
    return fail(ENOMEM, fmt::format("cannot serve metrics at {}: no HTTP server", address));
  (void)listening->release(); // The HTTP server closes it.
  return server;
}

MetricsServer::~MetricsServer() {
  if (http_ != nullptr)
    MHD_stop_daemon(http_);
  if (!socket_.empty())
    ::unlink(socket_.c_str());
}

std::string MetricsServer::answer() const {
  return metrics_text(ledger_);
}

} // namespace vfio_shim::daemon
