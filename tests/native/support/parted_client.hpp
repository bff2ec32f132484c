// SPDX-License-Identifier: MIT
/// @file
/// A client that says how its memory is to be divided, and fails where a test wants it to.
#pragma once

#include "vfio_shim/own_process.hpp"

#include <optional>
#include <vector>

namespace vfio_shim::test {

/// This process, with its memory in the parts that it was given.
class PartedClient final : public Client {
public:
  PartedClient();

  /// A part whose memory is @p file at @p offset; no file: pinned through this process's addresses.
  void add_part(ClientAddr start, Bytes size, int file = -1, Bytes offset = Bytes{0});
  /// From now on its memory is all of one kind.
  void forget_parts() { parts_.clear(); }
  /// The ioctl number @p call in the client (from 0) is carried out, but answers @p code.
  void fail_ioctl(int call, int code);

  std::string describe() const override { return own_.describe(); }
  Pid pid() const override { return own_.pid(); }
  Result<Fd> process() override { return own_.process(); }
  Result<void> read(ClientAddr from, std::span<std::byte> to) override {
    return own_.read(from, to);
  }
  Result<void> write(ClientAddr to, std::span<const std::byte> from) override {
    return own_.write(to, from);
  }
  Result<void> ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                               std::span<const std::byte> argument) override;
  Result<std::vector<MemoryPart>> memory_parts(ClientAddr start, Bytes size,
                                               Access access) override;
  Result<Fd> copy_of(ClientFd number) override { return own_.copy_of(number); }
  Result<std::shared_ptr<Container>> container_behind(const Fd & /*file*/) override {
    return nullptr;
  }
  Result<ClientFd> hand_over(const Fd &file) override { return own_.hand_over(file); }

private:
  struct Part {
    ClientAddr start;
    Bytes size;
    int file;
    Bytes offset;
  };

  OwnProcess own_;
  std::vector<Part> parts_;
  int calls_ = 0;
  int failing_call_ = -1;
  int failure_ = 0;
};

} // namespace vfio_shim::test
