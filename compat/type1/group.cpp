#include "vfio_shim/group.hpp"

#include <algorithm>

namespace vfio_shim {

Group::Group(GroupId id, topology::Roots roots, Ledger *ledger, Pid client)
    : id_(id),
      roots_(std::move(roots)),
      ledger_(ledger != nullptr ? *ledger : silent_ledger_),
      record_(ledger_.group_opened(id, client)) {}

Group::~Group() {
  leave_container();
  ledger_.group_gone(record_);
}

bool Group::device_open() {
  const std::scoped_lock lock(mutex_);
  return any_device_open();
}

bool Group::leave_when_unused() {
  const std::scoped_lock lock(mutex_);
  if (any_device_open()) {
    container_->leave_when_unused(id_, record_);
    return false;
  }
  leave_container();
  return true;
}

void Group::close() {
  const std::scoped_lock lock(mutex_);
  leave_container();
}

void Group::follow_topology() {
  const std::scoped_lock lock(mutex_);
  if (!container_)
    return;
  // No device left: whoever owns the group closes it.
  if (const auto present = topology::find(id_, roots_))
    container_->follow(*present);
}

bool Group::busy() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return !lock.owns_lock() || (container_ && container_->busy());
}

void Group::leave_container() {
  if (!container_)
    return;
  for (const GivenDevice &device : given_)
    ledger_.device_gone(device.record);
  given_.clear();
  container_->leave(id_, record_);
  container_.reset();
}

bool Group::any_device_open() {
  if (!container_)
    return false;
  const auto open = container_->open_devices(id_);
  std::erase_if(given_, [&](const GivenDevice &device) {
    if (std::ranges::find(open, device.name) != open.end())
      return false;
    ledger_.device_gone(device.record);
    return true;
  });
  return !open.empty();
}

} // namespace vfio_shim
