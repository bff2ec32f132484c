// SPDX-License-Identifier: MIT
/// @file
/// A legacy program that lives inside the test: its container and group files, and their ioctls.
#pragma once

#include "vfio_shim/container.hpp"
#include "vfio_shim/group.hpp"
#include "vfio_shim/own_process.hpp"

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <linux/vfio.h>

#include "answer.hpp"
#include "pages.hpp"

namespace vfio_shim::test {

inline constexpr std::uint32_t read_write = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

/// Arguments filled in, for tests that then spoil them.
vfio_iommu_type1_dma_map map_request(Iova iova, ClientAddr vaddr, Bytes size,
                                     std::uint32_t flags = read_write);
vfio_iommu_type1_dma_unmap unmap_request(Iova iova, Bytes size, std::uint32_t flags = 0);

/// A bitmap of @p size bytes at @p address, in pages of 4 KiB.
vfio_bitmap bitmap_argument(ClientAddr address, std::uint64_t size);

/// An argument in two parts: the second begins where the first one's flexible array does.
template <typename Head, typename Tail>
std::vector<std::byte> joined(const Head &head, const Tail &tail) {
  std::vector<std::byte> bytes(sizeof(head) + sizeof(tail));
  std::memcpy(bytes.data(), &head, sizeof(head));
  std::memcpy(bytes.data() + sizeof(head), &tail, sizeof(tail));
  return bytes;
}

/// VFIO_IOMMU_GET_INFO's answer with its capability chain taken apart.
struct IommuInfo {
  struct Link {
    std::uint16_t id;
    std::uint16_t version;
    std::uint32_t offset; ///< From the start of the struct.
  };

  vfio_iommu_type1_info head{};
  std::vector<Link> chain;
  std::vector<IovaRange> usable;
  std::uint32_t available = 0;
  vfio_iommu_type1_info_cap_migration migration{};

  /// @p bytes start with the struct. Throws std::runtime_error saying what is wrong with the chain.
  static IommuInfo parse(std::span<const std::byte> bytes);
};

class Program;

/// An open file of the container node. Moving it is like passing the descriptor on.
class ContainerFile {
public:
  int number() const { return file_.get(); }
  Container &container() { return *container_; }
  void close();

  Answer call(unsigned int command, std::uint64_t argument = 0);
  Answer call(unsigned int command, const void *argument);

  Answer set_iommu(unsigned long type = VFIO_TYPE1v2_IOMMU);
  Answer check_extension(unsigned long extension);
  /// Asked for as programs do: for the size first. Throws std::runtime_error if that fails.
  IommuInfo info();
  Answer map(Iova iova, ClientAddr vaddr, Bytes size, std::uint32_t flags = read_write);
  /// Answers the bytes that were unmapped.
  Answer unmap(Iova iova, Bytes size, std::uint32_t flags = 0);
  Answer unmap_all();
  /// VFIO_IOMMU_DIRTY_PAGES with START or STOP.
  Answer track_dirty(std::uint32_t flag);
  /// VFIO_IOMMU_DIRTY_PAGES with GET_BITMAP.
  Answer dirty_bitmap(Iova iova, Bytes size, const vfio_bitmap &bitmap);
  /// Answers the bytes that were unmapped.
  Answer unmap_with_bitmap(Iova iova, Bytes size, const vfio_bitmap &bitmap);

private:
  friend class Program;
  ContainerFile(Client &client, std::shared_ptr<Container> container, Fd file)
      : client_(&client), container_(std::move(container)), file_(std::move(file)) {}

  Client *client_;
  std::shared_ptr<Container> container_; ///< As long as the file is open.
  Fd file_;
};

/// An open file of a group node.
class GroupFile {
public:
  void close() { group_.reset(); }
  Group &group() { return *group_; }

  Answer call(unsigned int command, std::uint64_t argument = 0);
  Answer call(unsigned int command, const void *argument);

  /// Answers the flags.
  Answer status();
  Answer set_container(const ContainerFile &container);
  Answer set_container(int number);
  Answer unset_container();
  /// Answers the descriptor's number: the caller's to close.
  Answer device_number(const std::string &name);
  /// The device's file, or none.
  Fd device(const std::string &name);

private:
  friend class Program;
  GroupFile(Client &client, std::unique_ptr<Group> group)
      : client_(&client), group_(std::move(group)) {}

  Client *client_;
  std::unique_ptr<Group> group_;
};

/// Opens containers and groups. A container file is a memfd that stands for its container.
class Program {
public:
  Program(ContainerOptions options, topology::Roots roots);
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  ContainerFile open_container();
  GroupFile open_group(GroupId id);
  /// A group in a container of its own, with its IOMMU set.
  GroupFile open_group_in(GroupId id, ContainerFile &container,
                          unsigned long type = VFIO_TYPE1v2_IOMMU);

  OwnProcess &client() { return client_; }
  const topology::Roots &roots() const { return roots_; }

private:
  std::shared_ptr<Container> find_container(const Fd &file);

  ContainerOptions options_;
  topology::Roots roots_;
  std::map<std::uint64_t, std::weak_ptr<Container>> containers_; ///< By the file's inode.
  OwnProcess client_;
};

} // namespace vfio_shim::test
