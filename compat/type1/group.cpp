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
  const bool open = container_ && container_->device_open(id_);
  if (!open)
    forget_closed_devices();
  return open;
}

void Group::close() {
  const std::scoped_lock lock(mutex_);
  leave_container();
}

bool Group::busy() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return !lock.owns_lock() || (container_ && container_->busy());
}

void Group::leave_container() {
  if (!container_)
    return;
  forget_closed_devices();
  container_->leave(id_, record_);
  container_.reset();
}

void Group::forget_closed_devices() {
  for (const GivenDevice &device : given_)
    ledger_.device_gone(device.record);
  given_.clear();
}

} // namespace vfio_shim
