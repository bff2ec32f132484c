// SPDX-License-Identifier: MIT
/// @file
/// One CUSE character device as the kernel's FUSE protocol sees it.
#pragma once

#include "cuse/device_numbers.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <cuse_lowlevel.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/types.h>

#include "keeper/worker_store.hpp"

namespace vfio_shim::cuse {

/// What a device does with the requests of its users. Called from worker threads, several at once.
/// Every request is answered exactly once, but not necessarily before the method returns.
class Handler : public std::enable_shared_from_this<Handler> {
public:
  Handler() = default;
  Handler(const Handler &) = delete;
  Handler &operator=(const Handler &) = delete;
  virtual ~Handler() = default;

  virtual void open(fuse_req_t request, fuse_file_info &file) = 0;
  virtual void release(fuse_req_t request, fuse_file_info &file) = 0;
  virtual void ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command,
                     std::uint64_t argument, bool compat) = 0;
};

/// A message from the kernel; the buffer is reused from one to the next.
class Message {
public:
  Message() = default;
  Message(Message &&other) noexcept : buffer_(std::exchange(other.buffer_, {})) {}
  Message &operator=(Message &&other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  Message(const Message &) = delete;
  Message &operator=(const Message &) = delete;
  ~Message();

  /// The thread whose call it is.
  Tid caller() const;
  /// The call's number in its session. One that comes once more keeps it.
  std::uint64_t number() const { return header().unique; }
  /// The number that it had the first time.
  std::uint64_t first_number() const;

  /// What the kernel wants: FUSE_IOCTL and so on.
  std::uint32_t opcode() const { return header().opcode; }
  /// The open file that it is about. Of FUSE_IOCTL and FUSE_RELEASE.
  FileNumber file() const;
  /// Of FUSE_IOCTL.
  unsigned int command() const;

private:
  friend class Session;
  fuse_in_header header() const;
  template <typename Body>
  Body body() const;

  fuse_buf buffer_{};
};

/// The connection behind one character device. Destroying it removes the device: its users' calls
/// fail from then on.
class Session {
public:
  /// Connects to /dev/cuse as device @p name ("vfio/vfio" becomes /dev/vfio/vfio), which is there
  /// afterwards, unless the kernel could not make it.
  /// @param number The device's number; free again when the session has gone.
  /// @param handler Kept alive by the session: a worker may still be in it when the device goes.
  /// @param store Keeps the connection; outlives the session. nullptr: nobody does.
  /// @return The errno of opening /dev/cuse, EMFILE among them. ENOMEM. ETIMEDOUT: the kernel does
  ///         not ask for the device.
  static Result<std::shared_ptr<Session>> create(const std::string &name,
                                                 DeviceNumbers::Lease number,
                                                 std::shared_ptr<Handler> handler,
                                                 keeper::WorkerStore *store);

  /// Goes on with the connection of a worker that has died.
  /// @param connection From the store.
  static Result<std::shared_ptr<Session>> adopt(const std::string &name,
                                                DeviceNumbers::Lease number,
                                                std::shared_ptr<Handler> handler,
                                                keeper::WorkerStore &store, Fd connection);

  /// By what name the store keeps the connection of the device @p name.
  static std::string kept_name(const std::string &name) { return "node/" + name; }

  /// Has the kernel send every message once more that was taken and not answered.
  /// @return EINVAL: the kernel cannot do that (before Linux 6.9).
  Result<void> ask_again() const;

  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;
  ~Session();

  Handler &handler() const { return *handler_; }

  /// The device's name, below /dev.
  const std::string &name() const { return name_; }

  /// Becomes readable when the kernel has a message.
  int fd() const { return cuse_.get(); }

  /// Takes the next message. @return False if there was none, or the device is gone.
  /// @param patiently Waits for memory if there is none. Otherwise that is as if there were none.
  bool receive(Message &message, bool patiently = false);
  /// Carries it out.
  void process(const Message &message);
  /// The first number of the message that the calling thread carries out.
  static std::uint64_t first_number_under_way();
  /// Answers a call with @p error in place of whoever serves it. The kernel hears whoever answers
  /// first, and lets the other one talk. From any thread.
  void answer(std::uint64_t number, int error) const;

private:
  Session(std::string name, DeviceNumbers::Lease number, std::shared_ptr<Handler> handler, Fd cuse,
          keeper::WorkerStore *store)
      : name_(std::move(name)),
        number_(std::move(number)),
        handler_(std::move(handler)),
        store_(store),
        cuse_(std::move(cuse)) {}

  Result<void> connect();
  Result<void> announce();
  Result<void> announce_to_library();
  Result<void> have_it_kept();
  static void announced(void *session);
  static cuse_lowlevel_ops operations();
  bool refuse_interrupt(const Message &message) const;

  std::string name_;
  DeviceNumbers::Lease number_; ///< Given back last: when the connection is closed.
  std::shared_ptr<Handler> handler_;
  keeper::WorkerStore *store_; ///< nullptr: nobody keeps the connection.
  Fd cuse_;
  struct Destroy {
    void operator()(fuse_session *session) const { fuse_session_destroy(session); }
  };
  std::unique_ptr<fuse_session, Destroy> session_;
  bool announced_ = false;
};

} // namespace vfio_shim::cuse
