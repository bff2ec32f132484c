#include "cuse/session.hpp"

#include <array>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>

namespace vfio_shim::cuse {

namespace {

Handler &handler_of(fuse_req_t request) {
  return static_cast<Session *>(fuse_req_userdata(request))->handler();
}

void on_open(fuse_req_t request, fuse_file_info *file) {
  handler_of(request).open(request, *file);
}

void on_release(fuse_req_t request, fuse_file_info *file) {
  handler_of(request).release(request, *file);
}

void on_ioctl(fuse_req_t request, int command, void *argument, fuse_file_info *file,
              unsigned int flags, const void * /*input*/, size_t /*input_size*/,
              size_t /*output_size*/) {
  handler_of(request).ioctl(request, *file, static_cast<unsigned int>(command),
                            reinterpret_cast<std::uint64_t>(argument),
                            (flags & FUSE_IOCTL_COMPAT) != 0);
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

Result<std::shared_ptr<Session>> Session::create(const std::string &name,
                                                 std::shared_ptr<Handler> handler) {
  Fd cuse{::open("/dev/cuse", O_RDWR | O_CLOEXEC | O_NONBLOCK)};
  if (!cuse)
    return fail_errno("/dev/cuse");
  return std::shared_ptr<Session>(new Session(name, std::move(handler), std::move(cuse)));
}

Session::Session(std::string name, std::shared_ptr<Handler> handler, Fd cuse)
    : name_(std::move(name)), handler_(std::move(handler)), cuse_(std::move(cuse)) {
  std::string program = "vfio-shim";
  std::array<char *, 2> arguments{program.data(), nullptr};
  fuse_args parsed = FUSE_ARGS_INIT(1, arguments.data());
  const std::string device = "DEVNAME=" + name_;
  std::array<const char *, 1> device_information{device.c_str()};
  cuse_info info{};
  info.dev_info_argc = device_information.size();
  info.dev_info_argv = device_information.data();
  // VFIO's ioctl numbers do not say how large their arguments are.
  info.flags = CUSE_UNRESTRICTED_IOCTL;
  const cuse_lowlevel_ops served = operations();
  session_.reset(cuse_lowlevel_new(&parsed, &info, &served, this));
  fuse_opt_free_args(&parsed);
  // libfuse takes an open connection by this name; it will close its descriptor itself.
  const std::string connection =
      fmt::format("/dev/fd/{}", ::fcntl(cuse_.get(), F_DUPFD_CLOEXEC, 0));
  fuse_session_mount(session_.get(), connection.c_str());
}

Session::~Session() = default;

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

bool Session::receive(Message &message) {
  return fuse_session_receive_buf(session_.get(), &message.buffer_) > 0 &&
         !refuse_interrupt(message);
}

void Session::process(const Message &message) {
  fuse_session_process_buf(session_.get(), &message.buffer_);
}

/// The kernel tells of a signal to a waiting client by a message of its own, unless told once that
/// nobody listens. Nobody does: type1's ioctls do not end early for a signal. Without the messages
/// a client also keeps waiting quietly while its thread is being seized.
bool Session::refuse_interrupt(const Message &message) const {
  fuse_in_header header{};
  std::memcpy(&header, message.buffer_.mem, sizeof(header));
  if (header.opcode != FUSE_INTERRUPT)
    return false;
  const fuse_out_header answer{.len = sizeof(answer), .error = -ENOSYS, .unique = header.unique};
  [[maybe_unused]] const ssize_t written = ::write(cuse_.get(), &answer, sizeof(answer));
  return true;
}

void Session::announced(void *session) {
  auto *self = static_cast<Session *>(session);
  const std::scoped_lock lock(self->mutex_);
  self->announced_ = true;
  self->changed_.notify_all();
}

void Session::wait_until_announced() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return announced_; });
}

} // namespace vfio_shim::cuse
