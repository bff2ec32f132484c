// SPDX-License-Identifier: MIT
#include "cuse/session.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>
#include <poll.h>
#include <spdlog/spdlog.h>

namespace vfio_shim::cuse {

namespace {

/// The kernel's number of the message that the calling thread carries out.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local std::uint64_t message_under_way = 0;
/// That which it had the first time.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
thread_local std::uint64_t first_number_of_message = 0;

/// Calls @p handle. What it throws, for want of memory, must not come to libfuse, which is C; and
/// the client must have an answer. One that it has been given already is not spoilt: the kernel
/// takes no second one.
template <typename Handle>
void guard(fuse_req_t request, Handle handle) {
  const Session &session = *static_cast<Session *>(fuse_req_userdata(request));
  const std::uint64_t message = message_under_way;
  try {
    handle(session.handler());
  } catch (const std::exception &thrown) {
    session.answer(message, ENOMEM);
    spdlog::error("a message on /dev/{}: {}", session.name(), thrown.what());
  }
}

void on_open(fuse_req_t request, fuse_file_info *file) {
  guard(request, [&](Handler &handler) { handler.open(request, *file); });
}

void on_release(fuse_req_t request, fuse_file_info *file) {
  guard(request, [&](Handler &handler) { handler.release(request, *file); });
}

void on_ioctl(fuse_req_t request, int command, void *argument, fuse_file_info *file,
              unsigned int flags, const void * /*input*/, size_t /*input_size*/,
              size_t /*output_size*/) {
  guard(request, [&](Handler &handler) {
    handler.ioctl(request, *file, static_cast<unsigned int>(command),
                  reinterpret_cast<std::uint64_t>(argument), (flags & FUSE_IOCTL_COMPAT) != 0);
  });
}

/// The kernel's nodes have neither; a FUSE server without them would answer ENOSYS.
void refuse_read(fuse_req_t request, size_t /*size*/, off_t /*offset*/, fuse_file_info * /*file*/) {
  fuse_reply_err(request, EINVAL);
}

void refuse_write(fuse_req_t request, const char * /*bytes*/, size_t /*size*/, off_t /*offset*/,
                  fuse_file_info * /*file*/) {
  fuse_reply_err(request, EINVAL);
}

} // namespace

Message::~Message() {
  std::free(buffer_.mem); // NOLINT(*-owning-memory,*-no-malloc): libfuse allocated it.
}

fuse_in_header Message::header() const {
  fuse_in_header header{};
  std::memcpy(&header, buffer_.mem, sizeof(header));
  return header;
}

Tid Message::caller() const {
  return Tid{static_cast<int>(header().pid)};
}

std::uint64_t Message::first_number() const {
  constexpr std::uint64_t once_more = std::uint64_t{1} << 63U; // FUSE_UNIQUE_RESEND
  return number() & ~once_more;
}

template <typename Body>
Body Message::body() const {
  Body body{};
  if (buffer_.size >= sizeof(fuse_in_header) + sizeof(body))
    std::memcpy(&body, static_cast<const std::byte *>(buffer_.mem) + sizeof(fuse_in_header),
                sizeof(body));
  return body;
}

FileNumber Message::file() const {
  return FileNumber{opcode() == FUSE_RELEASE ? body<fuse_release_in>().fh
                                             : body<fuse_ioctl_in>().fh};
}

unsigned int Message::command() const {
  return body<fuse_ioctl_in>().cmd;
}

Result<std::shared_ptr<Session>> Session::create(const std::string &name,
                                                 DeviceNumbers::Lease number,
                                                 std::shared_ptr<Handler> handler,
                                                 keeper::WorkerStore *store) {
  Fd cuse{::open("/dev/cuse", O_RDWR | O_CLOEXEC | O_NONBLOCK)};
  if (!cuse)
    return fail_errno("/dev/cuse");
  std::shared_ptr<Session> session(
      new Session(name, std::move(number), std::move(handler), std::move(cuse), store));
  VFIO_SHIM_TRY(session->connect());
  VFIO_SHIM_TRY(session->announce());
  VFIO_SHIM_TRY(session->have_it_kept());
  return session;
}

Result<std::shared_ptr<Session>> Session::adopt(const std::string &name,
                                                DeviceNumbers::Lease number,
                                                std::shared_ptr<Handler> handler,
                                                keeper::WorkerStore &store, Fd connection) {
  std::shared_ptr<Session> session(
      new Session(name, std::move(number), std::move(handler), std::move(connection), &store));
  auto done = session->connect();
  if (done)
    done = session->announce_to_library();
  if (done)
    done = session->ask_again();
  if (!done) {
    session->store_ = nullptr; // It stays kept, for another try.
    return pass_on(done);
  }
  return session;
}

Result<void> Session::have_it_kept() {
  if (store_ == nullptr)
    return {};
  if (!ask_again()) { // What is taken and not answered would never be answered.
    store_->tell(keeper::mortal_line);
    return {};
  }
  return store_->keep_as(kept_name(name_), cuse_);
}

Result<void> Session::ask_again() const {
  constexpr int notify_resend = 7; // FUSE_NOTIFY_RESEND, include/uapi/linux/fuse.h
  const fuse_out_header wish{.len = sizeof(wish), .error = notify_resend, .unique = 0};
  if (::write(cuse_.get(), &wish, sizeof(wish)) != sizeof(wish))
    return fail_errno("FUSE_NOTIFY_RESEND");
  return {};
}

/// libfuse serves nothing before it has been asked what device it is, which the kernel asks only
/// once. So we ask. To the kernel the answer is one that it has had.
Result<void> Session::announce_to_library() {
  struct Question {
    fuse_in_header header;
    cuse_init_in body;
  } question{.header = {.len = sizeof(Question),
                        .opcode = CUSE_INIT,
                        .unique = 2, // Of the kernel's own question.
                        .nodeid = 0,
                        .uid = 0,
                        .gid = 0,
                        .pid = 0,
                        .total_extlen = 0,
                        .padding = 0},
             .body = {.major = FUSE_KERNEL_VERSION,
                      .minor = FUSE_KERNEL_MINOR_VERSION,
                      .unused = 0,
                      .flags = CUSE_UNRESTRICTED_IOCTL}};
  fuse_buf buffer{};
  buffer.mem = &question;
  buffer.size = sizeof(question);
  fuse_session_process_buf(session_.get(), &buffer);
  if (!announced_)
    return fail(EPROTO, fmt::format("libfuse does not go on with the device {}", name_));
  return {};
}

Result<void> Session::connect() {
  std::string program = "vfio-shim";
  std::array<char *, 2> arguments{program.data(), nullptr};
  fuse_args parsed = FUSE_ARGS_INIT(1, arguments.data());
  const std::string device = "DEVNAME=" + name_;
  std::array<const char *, 1> device_information{device.c_str()};
  cuse_info info{};
  info.dev_major = ::gnu_dev_major(number_.number());
  info.dev_minor = ::gnu_dev_minor(number_.number());
  info.dev_info_argc = device_information.size();
  info.dev_info_argv = device_information.data();
  // VFIO's ioctl numbers do not say how large their arguments are.
  info.flags = CUSE_UNRESTRICTED_IOCTL;
  const cuse_lowlevel_ops served = operations();
  session_.reset(cuse_lowlevel_new(&parsed, &info, &served, this));
  fuse_opt_free_args(&parsed);
  if (!session_)
    return fail(ENOMEM, "cuse_lowlevel_new");
  // libfuse takes an open connection by this name, and closes its descriptor itself.
  Fd connection = cuse_.duplicate();
  if (!connection)
    return fail_errno("a second descriptor of /dev/cuse");
  if (fuse_session_mount(session_.get(), fmt::format("/dev/fd/{}", connection.get()).c_str()) != 0)
    return fail(EIO, "fuse_session_mount");
  (void)connection.release();
  return {};
}

/// The kernel's first message asks what device it is. The answer makes it appear.
Result<void> Session::announce() {
  constexpr int patience_ms = 1000;
  pollfd asked{.fd = cuse_.get(), .events = POLLIN, .revents = 0};
  Message message;
  if (::poll(&asked, 1, patience_ms) == 1 && receive(message))
    process(message);
  if (!announced_)
    return fail(ETIMEDOUT, fmt::format("/dev/cuse does not ask for the device {}", name_));
  return {};
}

Session::~Session() {
  if (store_ != nullptr)
    store_->drop_name(kept_name(name_));
}

cuse_lowlevel_ops Session::operations() {
  cuse_lowlevel_ops served{};
  served.init_done = announced;
  served.open = on_open;
  served.release = on_release;
  served.ioctl = on_ioctl;
  served.read = refuse_read;
  served.write = refuse_write;
  return served;
}

bool Session::receive(Message &message, bool patiently) {
  for (;;) {
    const int received = fuse_session_receive_buf(session_.get(), &message.buffer_);
    // The message waits; to ask for it at once, again and again, would not make room for it.
    constexpr std::chrono::milliseconds pause{10};
    if (received == -ENOMEM)
      std::this_thread::sleep_for(pause);
    const bool again = received == -EINTR || (received == -ENOMEM && patiently) ||
                       (received > 0 && refuse_interrupt(message));
    if (!again)
      return received > 0;
  }
}

void Session::process(const Message &message) {
  message_under_way = message.number();
  first_number_of_message = message.first_number();
  fuse_session_process_buf(session_.get(), &message.buffer_);
}

/// The kernel tells of a signal to a waiting client by a message of its own, unless told once that
/// nobody listens. Nobody does: type1's ioctls do not end early for a signal. Without the messages
/// a client also keeps waiting quietly while its thread is being seized.
bool Session::refuse_interrupt(const Message &message) const {
  const fuse_in_header header = message.header();
  if (header.opcode != FUSE_INTERRUPT)
    return false;
  answer(header.unique, ENOSYS);
  return true;
}

void Session::answer(std::uint64_t number, int error) const {
  const fuse_out_header answer{.len = sizeof(answer), .error = -error, .unique = number};
  [[maybe_unused]] const ssize_t written = ::write(cuse_.get(), &answer, sizeof(answer));
}

std::uint64_t Session::first_number_under_way() {
  return first_number_of_message;
}

void Session::announced(void *session) {
  static_cast<Session *>(session)->announced_ = true;
}

} // namespace vfio_shim::cuse
