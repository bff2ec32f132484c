// SPDX-License-Identifier: MIT
#include "cuse/device_numbers.hpp"

#include <utility>

#include <fmt/format.h>

namespace vfio_shim::cuse {

std::string describe_number(dev_t number) {
  return fmt::format("device {}:{}", ::gnu_dev_major(number), ::gnu_dev_minor(number));
}

DeviceNumbers::Lease &DeviceNumbers::Lease::operator=(Lease &&other) noexcept {
  std::swap(lender_, other.lender_);
  std::swap(number_, other.number_);
  return *this;
}

DeviceNumbers::Lease::~Lease() {
  if (lender_)
    lender_->take_back(number_);
}

Result<DeviceNumbers::Lease> DeviceNumbers::lend(dev_t number) {
  if (number == 0)
    return Lease{};
  const std::scoped_lock lock(mutex_);
  if (!lent_.insert(number).second)
    return fail(EEXIST, describe_number(number) + " is still on its way out");
  return Lease{shared_from_this(), number};
}

void DeviceNumbers::take_back(dev_t number) {
  const std::scoped_lock lock(mutex_);
  lent_.erase(number);
}

} // namespace vfio_shim::cuse
