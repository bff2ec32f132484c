// SPDX-License-Identifier: MIT
#include "vfio_shim/group.hpp"

#include <algorithm>
#include <utility>

#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim {

Result<std::shared_ptr<Group>> Group::open(GroupId id, topology::Roots roots, Ledger *ledger,
                                           FileNumber file, Pid client) {
  auto opened = std::make_shared<Group>(id, std::move(roots), ledger, file, client);
  if (opened->record_ == 0)
    return fail_for_operator(ENOMEM, "the ledger has no room for another group");
  return opened;
}

Group::Group(GroupId id, topology::Roots roots, Ledger *ledger, FileNumber file, Pid client)
    : id_(id),
      roots_(std::move(roots)),
      ledger_(ledger != nullptr ? *ledger : silent_ledger_),
      record_(ledger_.group_opened(file, id, client)) {}

std::shared_ptr<Group> Group::adopt(const GroupState &state, topology::Roots roots, Ledger *ledger,
                                    std::shared_ptr<Container> container) {
  std::shared_ptr<Group> adopted(new Group(state, std::move(roots), ledger));
  if (container)
    adopted->membership_ = container->membership(state.id);
  if (adopted->membership_)
    adopted->container_ = std::move(container);
  else
    adopted->forget_all_devices_but({});
  return adopted;
}

Group::Group(const GroupState &state, topology::Roots roots, Ledger *ledger)
    : id_(state.id),
      roots_(std::move(roots)),
      ledger_(ledger != nullptr ? *ledger : silent_ledger_),
      record_(state.record),
      closed_(state.closed) {
  for (const DeviceState &device : state.devices) {
    GivenDevice &given = given_.emplace_back(
        GivenDevice{.name = device.name, .record = device.record, .holders = {}});
    for (const HolderState &holder : device.holders)
      if (Fd process{static_cast<int>(::syscall(SYS_pidfd_open, holder.process.value, 0U))})
        given.holders.push_back(
            {.process = std::move(process), .pid = holder.process, .number = holder.number});
  }
}

/// The place of the group tells: it is in a container now, or in none.
Outcome Group::settle(const Intention &intention) {
  const std::scoped_lock lock(mutex_);
  const bool inside = container_ != nullptr;
  return {.carried_out = intention.kind == Intention::Kind::done ||
                         (intention.kind == Intention::Kind::join && inside) ||
                         (intention.kind == Intention::Kind::leave && !inside),
          .size = {}};
}

Group::~Group() {
  leave_container();
  if (record_ != 0)
    ledger_.group_gone(record_);
}

bool Group::device_open() {
  const std::scoped_lock lock(mutex_);
  return any_device_open();
}

Departure Group::try_leave_when_unused() {
  note_closed();
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock())
    return Departure::busy;
  if (!container_)
    return Departure::left;
  const Departure departure = container_->try_leave_when_unused(*membership_);
  if (departure == Departure::left)
    forget_container();
  else if (const auto open = container_->try_open_devices(id_))
    forget_all_devices_but(*open);
  return departure;
}

void Group::note_closed() {
  const std::scoped_lock lock(end_mutex_);
  if (!closed_.exchange(true) && record_ != 0)
    ledger_.group_closed(record_);
}

Departure Group::try_close() {
  note_closed();
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock())
    return Departure::busy;
  if (container_ && container_->try_leave(*membership_) == Departure::busy)
    return Departure::busy;
  forget_container();
  // Nobody may ever tell that its file is closed.
  const std::scoped_lock end(end_mutex_);
  if (record_ != 0)
    ledger_.group_gone(std::exchange(record_, 0));
  return Departure::left;
}

bool Group::try_follow_topology() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock())
    return false;
  // No device left: whoever owns the group closes it.
  if (container_)
    if (const auto present = topology::find(id_, roots_))
      return container_->follow(*membership_, *present);
  return true;
}

void Group::leave_container() {
  if (container_)
    container_->leave(*membership_);
  forget_container();
}

bool Group::leave_if_unused() {
  if (!container_)
    return true;
  any_device_open(); // Forgets those that are not.
  if (!container_->leave_if_unused(*membership_))
    return false;
  forget_container();
  return true;
}

void Group::forget_container() {
  forget_all_devices_but({});
  membership_.reset();
  container_.reset();
}

bool Group::any_device_open() {
  if (!container_)
    return false;
  const auto open = container_->open_devices(id_);
  forget_all_devices_but(open);
  return !open.empty();
}

void Group::forget_all_devices_but(const std::vector<std::string> &open) {
  std::erase_if(given_, [&](const GivenDevice &device) {
    if (std::ranges::find(open, device.name) != open.end())
      return false;
    ledger_.device_gone(device.record);
    return true;
  });
}

} // namespace vfio_shim
