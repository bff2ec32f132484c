#include "vfio_shim/container.hpp"

#include "type1/address_space_state.hpp"

namespace vfio_shim {

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
  VFIO_SHIM_TRY(make_backend_if_none());
  auto joined = backend_->claim(group);
  if (joined && iommu_) {
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
  ledger_.group_moved(group_record, 0);
  groups_.erase(group);
  if (groups_.empty()) {
    end_address_space();
    backend_.reset();
    return;
  }
  backend_->release(group);
  // Fewer devices can only widen what is usable; if it cannot be read, the old answer stays right.
  if (iommu_)
    (void)refresh_address_space();
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
  backend_ = std::move(*made);
  return {};
}

Result<void> Container::refresh_address_space() {
  VFIO_SHIM_TRY(backend_->attach_claimed());
  auto space = backend_->address_space();
  if (!space)
    return pass_on(space);
  iommu_->space = std::move(*space);
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
