#include "vfio_shim/container.hpp"

#include "type1/address_space_state.hpp"

#include <fmt/format.h>

#include "iova_window.hpp"

namespace vfio_shim {

namespace {

/// Leaves nothing usable but the window.
Result<void> limit(AddressSpace &space, IovaRange window) {
  if (const auto hole = first_hole(space.usable, window))
    return fail_for_operator(
        EINVAL, fmt::format("the IOVA window {} has a hole: {} is not usable", window, *hole));
  space.usable = {window};
  return {};
}

} // namespace

Container::Container(ContainerOptions options, Pid client)
    : options_(std::move(options)),
      ledger_(options_.ledger != nullptr ? *options_.ledger : silent_ledger_),
      record_(ledger_.container_opened(client)) {}

Container::~Container() {
  end_address_space();
  ledger_.container_gone(record_);
}

Result<void> Container::join(const topology::Group &group, Ledger::Record group_record) {
  const std::scoped_lock lock(mutex_);
  let_unused_go();
  VFIO_SHIM_TRY(make_backend_if_none());
  auto joined = backend_->claim(group);
  if (joined && iommu_) {
    joined = may_attach();
    if (joined)
      joined = refresh_address_space();
    if (!joined)
      backend_->release(group.id);
  }
  if (!joined) {
    if (groups_.empty())
      backend_.reset();
    return joined;
  }
  groups_.insert(group.id);
  ledger_.group_moved(group_record, record_);
  return {};
}

void Container::leave(GroupId group, Ledger::Record group_record) {
  const std::scoped_lock lock(mutex_);
  let_go(group, group_record);
}

void Container::leave_when_unused(GroupId group, Ledger::Record group_record) {
  const std::scoped_lock lock(mutex_);
  if (groups_.contains(group))
    leaving_.insert_or_assign(group, group_record);
}

void Container::let_go(GroupId group, Ledger::Record group_record) {
  leaving_.erase(group);
  if (groups_.erase(group) == 0)
    return; // It has gone already, when it was unused.
  ledger_.group_moved(group_record, 0);
  if (groups_.empty()) {
    end_address_space();
    backend_.reset();
    return;
  }
  backend_->release(group);
  if (iommu_ && iommu_->tracking_dirty)
    iommu_->mappings.mark_all_dirty(); // What only the group's IOMMU knew is lost.
  // Fewer devices can only widen what is usable; if it cannot be read, the old answer stays right.
  if (iommu_)
    (void)refresh_address_space();
}

void Container::let_unused_go() {
  for (const auto &[group, record] : std::map(leaving_))
    if (backend_->open_devices(group).empty())
      let_go(group, record);
}

void Container::follow(const topology::Group &present) {
  const std::scoped_lock lock(mutex_);
  if (backend_)
    backend_->follow(present);
}

bool Container::busy() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return !lock.owns_lock();
}

Result<Fd> Container::open_device(GroupId group, const topology::Device &device) {
  const std::scoped_lock lock(mutex_);
  if (!iommu_)
    return fail(EINVAL, "no VFIO_SET_IOMMU yet");
  return backend_->open_device(group, device);
}

void Container::given_away(GroupId group, std::string_view name) {
  const std::scoped_lock lock(mutex_);
  if (backend_)
    backend_->given_away(group, name);
}

std::vector<std::string> Container::open_devices(GroupId group) {
  const std::scoped_lock lock(mutex_);
  return backend_ ? backend_->open_devices(group) : std::vector<std::string>{};
}

Result<void> Container::make_backend_if_none() {
  if (backend_)
    return {};
  auto made = options_.make_backend();
  if (!made)
    return pass_on(made);
  if (options_.iova_window)
    VFIO_SHIM_TRY((*made)->keep_usable(*options_.iova_window));
  backend_ = std::move(*made);
  return {};
}

Result<void> Container::refresh_address_space() {
  VFIO_SHIM_TRY(backend_->attach_claimed());
  auto space = backend_->address_space();
  if (!space)
    return pass_on(space);
  if (options_.iova_window)
    VFIO_SHIM_TRY(limit(*space, *options_.iova_window));
  iommu_->space = std::move(*space);
  return {};
}

/// type1's rule: a new group's IOMMU could need pages by their addresses in the client.
Result<void> Container::may_attach() const {
  if (iommu_->mappings.any_without_vaddr())
    return fail(EBUSY, "a mapping has no valid vaddr");
  return {};
}

/// The backend's destruction unmaps everything; only the books are closed here.
void Container::end_address_space() {
  if (!iommu_)
    return;
  const auto run = iommu_->mappings.all();
  for (auto mapping = run.begin; mapping != run.end; ++mapping)
    ledger_.unmapped(record_, mapping->second.record);
  iommu_.reset();
  ledger_.iommu_set(record_, 0);
}

} // namespace vfio_shim
