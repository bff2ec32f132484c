// SPDX-License-Identifier: MIT
#include "fake_machine.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

namespace vfio_shim::test {

namespace {

bool overlap(const IovaRange &one, const IovaRange &other) {
  return one.first <= other.last && other.first <= one.last;
}

/// What remains of @p ranges without @p hole.
std::vector<IovaRange> without(const std::vector<IovaRange> &ranges, const IovaRange &hole) {
  std::vector<IovaRange> rest;
  for (const IovaRange &range : ranges) {
    if (!overlap(range, hole)) {
      rest.push_back(range);
      continue;
    }
    if (range.first < hole.first)
      rest.push_back({range.first, Iova{hole.first.value - 1}});
    if (hole.last < range.last)
      rest.push_back({Iova{hole.last.value + 1}, range.last});
  }
  return rest;
}

} // namespace

void FakeMachine::add_group(GroupId id, const std::vector<std::string> &devices,
                            std::vector<IovaRange> reserved) {
  for (const std::string &device : devices) {
    sysfs.add_device(device, id, "vfio-pci");
    sysfs.add_cdev(device, cdevs_++);
  }
  reserved.push_back(msi);
  reserved_[id] = std::move(reserved);
}

BackendFactory FakeMachine::factory() {
  return [this]() -> Result<std::unique_ptr<Backend>> {
    VFIO_SHIM_TRY(failure("create"));
    return std::make_unique<FakeBackend>(*this);
  };
}

void FakeMachine::close_at_client(const std::string &device) {
  for (auto &[id, owner] : owners_)
    if (auto &claimed = owner->claimed_[id]; claimed.at_client.erase(device) != 0)
      claimed.attached = false; // The attachment went with the file.
}

void FakeMachine::write_page(Iova iova) {
  for (FakeBackend *backend : backends_)
    if (backend->tracking_dirty_ && can_track_dirty)
      backend->dirty_.insert(iova);
}

std::vector<IovaRange> FakeMachine::mapped() const {
  std::vector<IovaRange> all;
  for (const FakeBackend *backend : backends_)
    for (const auto &[first, last] : backend->mapped_)
      all.push_back({first, last});
  return all;
}

Result<void> FakeMachine::failure(const std::string &name) {
  const auto wanted = failures_.find(name);
  if (wanted == failures_.end())
    return {};
  const int code = wanted->second;
  failures_.erase(wanted);
  return fail(code, "failure wanted by the test");
}

FakeBackend::FakeBackend(FakeMachine &machine) : machine_(machine) {
  machine_.backends_.insert(this);
}

FakeBackend::~FakeBackend() {
  for (const auto &[id, claimed] : claimed_)
    machine_.owners_.erase(id);
  machine_.backends_.erase(this);
  machine_.log.emplace_back("end");
}

Result<void> FakeBackend::claim(const topology::Group &group) {
  VFIO_SHIM_TRY(machine_.failure("claim"));
  if (machine_.owners_.contains(group.id))
    return fail(EPERM, "owned already");
  machine_.owners_[group.id] = this;
  claimed_[group.id] = {};
  machine_.log.push_back(fmt::format("claim {}", group.id.value));
  return {};
}

Result<void> FakeBackend::attach_claimed() {
  VFIO_SHIM_TRY(machine_.failure("attach_claimed"));
  for (auto &[id, claimed] : claimed_) {
    if (claimed.attached)
      continue;
    if (collides(id))
      return fail(EINVAL, "reserved regions collide with what is mapped");
    claimed.attached = true;
    machine_.log.push_back(fmt::format("attach {}", id.value));
  }
  return {};
}

void FakeBackend::follow(const topology::Group &present) {
  EXPECT_TRUE(claimed_.contains(present.id)) << "follow() of a group that was not claimed";
  machine_.log.push_back(
      fmt::format("follow {}: {} device(s)", present.id.value, present.devices.size()));
}

void FakeBackend::release(GroupId group) {
  EXPECT_EQ(claimed_.erase(group), 1U) << "release of a group that was not claimed";
  machine_.owners_.erase(group);
  machine_.log.push_back(fmt::format("release {}", group.value));
}

Result<AddressSpace> FakeBackend::address_space() {
  VFIO_SHIM_TRY(machine_.failure("address_space"));
  EXPECT_TRUE(everything_attached()) << "address_space() before attach_claimed()";
  AddressSpace space{.usable = {FakeMachine::whole},
                     .page_sizes = machine_.page_sizes,
                     .coherent = machine_.coherent};
  for (const auto &[id, claimed] : claimed_)
    for (const IovaRange &reserved : machine_.reserved_[id])
      space.usable = without(space.usable, reserved);
  return space;
}

Result<void> FakeBackend::map(Client & /*client*/, const MapRequest &request) {
  if (machine_.while_mapping)
    machine_.while_mapping();
  VFIO_SHIM_TRY(machine_.failure("map"));
  EXPECT_TRUE(everything_attached()) << "map() before attach_claimed()";
  const IovaRange range{request.iova, Iova{request.iova.value + request.size.value - 1}};
  for (const auto &[first, last] : mapped_)
    EXPECT_FALSE(overlap(range, {first, last})) << fmt::format("{} is mapped twice", range);
  mapped_.emplace(range.first, range.last);
  machine_.log.push_back(fmt::format("map {}", range));
  return {};
}

Result<void> FakeBackend::unmap(IovaRange range) {
  VFIO_SHIM_TRY(machine_.failure("unmap"));
  const std::size_t before = mapped_.size();
  std::erase_if(mapped_, [&](const auto &entry) {
    const IovaRange mapping{entry.first, entry.second};
    const bool touched = overlap(mapping, range);
    EXPECT_TRUE(!touched || (range.first <= mapping.first && mapping.last <= range.last))
        << fmt::format("unmap of {} cuts {}", range, mapping);
    return touched;
  });
  EXPECT_LT(mapped_.size(), before) << fmt::format("unmap of {}, where nothing is", range);
  machine_.log.push_back(fmt::format("unmap {}", range));
  return {};
}

Result<void> FakeBackend::track_dirty(bool on) {
  VFIO_SHIM_TRY(machine_.failure("track_dirty"));
  tracking_dirty_ = on;
  dirty_.clear();
  return {};
}

Result<void> FakeBackend::report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                                       std::span<std::uint64_t> bitmap) {
  VFIO_SHIM_TRY(machine_.failure("report_dirty"));
  EXPECT_TRUE(tracking_dirty_) << "report_dirty() before track_dirty()";
  EXPECT_TRUE(std::ranges::any_of(mapped_, [&](const auto &mapping) {
    return mapping.first <= range.first && range.last <= mapping.second;
  })) << fmt::format("{} is reported, but not mapped", range);
  const std::uint64_t pages = (range.last - range.first).value / page_size.value + 1;
  EXPECT_LE(pages, bitmap.size() * 64);
  for (std::uint64_t page = 0; page < pages; ++page) {
    const Iova iova = range.first + Bytes{page * page_size.value};
    if (!machine_.can_track_dirty || dirty_.contains(iova))
      bitmap[page / 64] |= std::uint64_t{1} << page % 64;
    if (after == AfterReport::clean)
      dirty_.erase(iova);
  }
  return {};
}

Result<Fd> FakeBackend::open_device(GroupId group, const topology::Device &device) {
  VFIO_SHIM_TRY(machine_.failure("open_device"));
  const auto found = claimed_.find(group);
  if (found == claimed_.end()) {
    ADD_FAILURE() << "open_device() of a group that was not claimed";
    return fail(EIO, "not claimed");
  }
  if (found->second.at_client.contains(device.name))
    return fail(EBUSY, "open at the client");
  Fd file{::open(device.cdev.c_str(), O_RDWR | O_CLOEXEC)};
  if (!file)
    return fail_errno(device.cdev);
  return file;
}

void FakeBackend::given_away(GroupId group, std::string_view name) {
  claimed_[group].at_client.emplace(name);
}

std::vector<std::string> FakeBackend::open_devices(GroupId group) {
  const auto found = claimed_.find(group);
  if (found == claimed_.end())
    return {};
  return {found->second.at_client.begin(), found->second.at_client.end()};
}

bool FakeBackend::everything_attached() const {
  return std::ranges::all_of(claimed_, [](const auto &entry) { return entry.second.attached; });
}

bool FakeBackend::collides(GroupId group) const {
  return std::ranges::any_of(machine_.reserved_[group], [this](const IovaRange &reserved) {
    return std::ranges::any_of(mapped_, [&](const auto &entry) {
      return overlap(reserved, {entry.first, entry.second});
    });
  });
}

} // namespace vfio_shim::test
