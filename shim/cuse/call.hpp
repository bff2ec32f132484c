/// @file
/// One legacy ioctl being served.
#pragma once

#include "client/calling_thread.hpp"

#include "vfio_shim/result.hpp"

#include <cstdint>
#include <string_view>

#include <fuse_lowlevel.h>

namespace vfio_shim::cuse {

/// An ioctl from the moment it was received to its answer.
///
/// The answer has two ways out, and nobody but this class knows which one it takes: a FUSE reply,
/// or the registers of the client's thread, if that was borrowed and so had been answered early.
class Call {
public:
  Call(fuse_req_t request, unsigned int command, std::uint64_t argument,
       client::ContainerFinder find_container);

  unsigned int command() const { return command_; }
  std::uint64_t argument() const { return argument_; }
  Client &client() { return client_; }

  /// Answers the client, once.
  /// @param name The ioctl's name, for the log; may be empty.
  void reply(std::string_view name, const Result<long> &result);

private:
  fuse_req_t request_;
  unsigned int command_;
  std::uint64_t argument_;
  client::CallingThread client_;
};

} // namespace vfio_shim::cuse
