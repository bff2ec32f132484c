// SPDX-License-Identifier: MIT
/// @file
/// The device numbers of a daemon's nodes.
#pragma once

#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <memory>
#include <mutex>
#include <set>
#include <string>

#include <sys/sysmacros.h>
#include <sys/types.h>

namespace vfio_shim::cuse {

/// The minors of one daemon: the first is the container's, and each group has the one that belongs
/// to its number. So a number that somebody remembers never means another group.
struct NumberBlock {
  /// Minors in a block. A major has 2^20.
  static constexpr unsigned int size = 1U << 14U;
  /// Blocks 0 to count - 1. Block 0 is nobody's: a driver that takes a whole major the old way
  /// takes minors 0 to 255, and can be there as well.
  static constexpr unsigned int count = (1U << 20U) / size;

  unsigned int major = 0; ///< 0: none; each node gets a major from the kernel.
  unsigned int index = 0;

  /// @return 0 if the kernel is to choose.
  dev_t container() const { return number(0); }
  /// @return 0 if the kernel is to choose: the group's number does not fit into the block.
  dev_t group(GroupId id) const { return id.value < size - 1 ? number(id.value + 1) : dev_t{0}; }

private:
  dev_t number(unsigned int place) const {
    return major == 0 ? dev_t{0} : ::gnu_dev_makedev(major, index * size + place);
  }
};

/// "device 120:16384", for people.
std::string describe_number(dev_t number);

/// Lends numbers, each to one node at a time.
///
/// A node's number is free when the last worker has let go of its session, which may be after the
/// node has gone. The kernel must not be asked for it again before: its cdev map knows a number's
/// first and second user by the number only, and would forget the wrong one.
class DeviceNumbers : public std::enable_shared_from_this<DeviceNumbers> {
public:
  /// A number for as long as this lives.
  class Lease {
  public:
    Lease() = default; ///< Of no number: the kernel is to choose.
    Lease(Lease &&other) noexcept = default;
    Lease &operator=(Lease &&other) noexcept;
    Lease(const Lease &) = delete;
    Lease &operator=(const Lease &) = delete;
    ~Lease();

    /// @return 0: the kernel is to choose.
    dev_t number() const { return lender_ ? number_ : dev_t{0}; }

  private:
    friend class DeviceNumbers;
    Lease(std::shared_ptr<DeviceNumbers> lender, dev_t number)
        : lender_(std::move(lender)), number_(number) {}

    std::shared_ptr<DeviceNumbers> lender_;
    dev_t number_ = 0;
  };

  static std::shared_ptr<DeviceNumbers> create(NumberBlock block) {
    return std::shared_ptr<DeviceNumbers>(new DeviceNumbers(block));
  }

  /// @return EEXIST: a node that is on its way out has it.
  Result<Lease> of_container() { return lend(block_.container()); }
  /// @return EEXIST: as of_container().
  Result<Lease> of_group(GroupId id) { return lend(block_.group(id)); }

private:
  explicit DeviceNumbers(NumberBlock block) : block_(block) {}

  Result<Lease> lend(dev_t number);
  void take_back(dev_t number);

  const NumberBlock block_;
  std::mutex mutex_;
  std::set<dev_t> lent_; ///< Guarded by mutex_.
};

} // namespace vfio_shim::cuse
