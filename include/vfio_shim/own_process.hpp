// SPDX-License-Identifier: MIT
/// @file
/// A client that is this very process: for programs that embed libvfio_compat.
#pragma once

#include "vfio_shim/client.hpp"

#include <functional>

namespace vfio_shim {

/// Serves calls on this process's own memory and descriptors.
class OwnProcess final : public Client {
public:
  /// @param find_container Tells which container an open file stands for; the embedding program
  ///        decides what its container files are.
  explicit OwnProcess(std::function<std::shared_ptr<Container>(const Fd &)> find_container);

  std::string describe() const override;
  Pid pid() const override;
  Result<Fd> process() override;
  Result<void> read(ClientAddr from, std::span<std::byte> to) override;
  Result<void> write(ClientAddr to, std::span<const std::byte> from) override;
  Result<void> ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                               std::span<const std::byte> argument) override;
  Result<std::vector<MemoryPart>> memory_parts(ClientAddr start, Bytes size,
                                               Access access) override;
  Result<Fd> copy_of(ClientFd number) override;
  Result<std::shared_ptr<Container>> container_behind(const Fd &file) override;
  Result<ClientFd> hand_over(const Fd &file) override;

private:
  std::function<std::shared_ptr<Container>(const Fd &)> find_container_;
};

} // namespace vfio_shim
