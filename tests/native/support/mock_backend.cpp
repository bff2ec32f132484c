// SPDX-License-Identifier: MIT
#include "support/mock_backend.hpp"

#include "abi/iommufd.hpp"
#include "backend/ioctl.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace vfio_shim::test {

namespace {

constexpr std::uint64_t page_size = 4096;

// Source: drivers/iommu/iommufd/iommufd_test.h.
constexpr unsigned long iommu_test_cmd = _IO(abi::iommufd_type, 0xa0);
constexpr std::uint32_t op_mock_domain_replace = 10;
constexpr std::uint32_t op_mock_domain_flags = 12;
constexpr std::uint32_t op_dirty = 13;
constexpr std::uint32_t op_pasid_attach = 18;
constexpr std::uint32_t op_pasid_detach = 20;
constexpr std::uint32_t mock_device_no_dirty = 1U << 0;
constexpr std::uint32_t mock_device_pasid = 1U << 2;

std::uint32_t flags_of(GroupId group) {
  if (group == MockBackend::untracked_group)
    return mock_device_no_dirty;
  return group == MockBackend::pasid_group ? mock_device_pasid : 0;
}

struct TestCommand {
  TestCommand(std::uint32_t what, std::uint32_t object) : op(what), id(object) {}

  std::uint32_t size = sizeof(TestCommand);
  std::uint32_t op;
  std::uint32_t id;
  std::uint32_t reserved = 0;
  union {
    struct {
      std::uint32_t out_stdev_id;
      std::uint32_t out_hwpt_id;
      std::uint32_t out_idev_id;
      std::uint32_t dev_flags;
    } mock_domain_flags;
    struct {
      std::uint32_t pt_id;
    } mock_domain_replace;
    struct {
      std::uint32_t pasid;
      std::uint32_t pt_id;
    } pasid_attach;
    struct {
      std::uint32_t flags;
      std::uint64_t iova;
      std::uint64_t length;
      std::uint64_t page_size;
      std::uint64_t uptr;
      std::uint64_t out_nr_dirty;
    } dirty{};
  };
  std::uint32_t last = 0;
};
static_assert(sizeof(TestCommand) == 72);

} // namespace

Result<std::unique_ptr<MockBackend>> MockBackend::create() {
  Fd iommufd{::open("/dev/iommu", O_RDWR | O_CLOEXEC)};
  if (!iommufd)
    return fail_errno("/dev/iommu");
  std::unique_ptr<MockBackend> backend(new MockBackend(std::move(iommufd)));
  auto ioas = Ioas::make(backend->iommufd_);
  if (!ioas)
    return pass_on(ioas);
  backend->ioas_ = std::move(*ioas);
  return backend;
}

MockBackend::~MockBackend() {
  while (!devices_.empty())
    release(devices_.begin()->first);
}

void MockBackend::write(GroupId group, std::span<const Iova> iovas) {
  for (const Iova iova : iovas) {
    const std::uint64_t bitmap = 1;
    TestCommand command(op_dirty, devices_.at(group).domain->id());
    command.dirty = {.flags = 0,
                     .iova = iova.value,
                     .length = page_size,
                     .page_size = page_size,
                     .uptr = reinterpret_cast<std::uintptr_t>(&bitmap),
                     .out_nr_dirty = 0};
    ASSERT_TRUE(run_ioctl(iommufd_, iommu_test_cmd, &command, "IOMMU_TEST_OP_DIRTY"));
    ASSERT_EQ(command.dirty.out_nr_dirty, 1U);
  }
}

Result<void> MockBackend::claim(const topology::Group &group) {
  TestCommand make(op_mock_domain_flags, ioas_->id());
  make.mock_domain_flags = {
      .out_stdev_id = 0, .out_hwpt_id = 0, .out_idev_id = 0, .dev_flags = flags_of(group.id)};
  VFIO_SHIM_TRY(run_ioctl(iommufd_, iommu_test_cmd, &make, "IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS"));
  const std::uint32_t object = make.mock_domain_flags.out_stdev_id;
  auto domain = Domain::make(iommufd_, ioas_->id(), make.mock_domain_flags.out_idev_id);
  if (!domain)
    return pass_on(domain);
  TestCommand attach(op_mock_domain_replace, object);
  attach.mock_domain_replace = {.pt_id = (*domain)->id()};
  VFIO_SHIM_TRY(run_ioctl(iommufd_, iommu_test_cmd, &attach, "IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE"));
  devices_[group.id] = {.object = object, .domain = std::move(*domain)};
  return {};
}

Result<void> MockBackend::attach_pasid(GroupId group, std::uint32_t pasid) {
  const Device &device = devices_.at(group);
  TestCommand attach(op_pasid_attach, device.object);
  attach.pasid_attach = {.pasid = pasid, .pt_id = device.domain->id()};
  VFIO_SHIM_TRY(run_ioctl(iommufd_, iommu_test_cmd, &attach, "IOMMU_TEST_OP_PASID_ATTACH"));
  TestCommand detach(op_pasid_detach, device.object);
  detach.pasid_attach = {.pasid = pasid, .pt_id = 0};
  return run_ioctl(iommufd_, iommu_test_cmd, &detach, "IOMMU_TEST_OP_PASID_DETACH");
}

void MockBackend::release(GroupId group) {
  abi::IommuDestroy destroy{.id = devices_.at(group).object};
  EXPECT_TRUE(run_ioctl(iommufd_, abi::iommu_destroy, &destroy, "IOMMU_DESTROY"));
  devices_.erase(group);
}

Result<AddressSpace> MockBackend::address_space() {
  return AddressSpace{.usable = {{aperture, Iova{(1U << 31) - 1}}}, .page_sizes = page_size};
}

Result<void> MockBackend::map(Client &client, const MapRequest &request) {
  return ioas_->map_addresses(client, request.iova, request.vaddr, request.size, request.access);
}

Result<void> MockBackend::unmap(IovaRange range) {
  return ioas_->unmap(range);
}

Result<void> MockBackend::track_dirty(bool on) {
  return vfio_shim::track_dirty(domains(), on);
}

Result<void> MockBackend::report_dirty(IovaRange range, Bytes page_size, AfterReport after,
                                       std::span<std::uint64_t> bitmap) {
  return vfio_shim::report_dirty(domains(), range, page_size, after, bitmap);
}

Result<Fd> MockBackend::open_device(GroupId /*group*/, const topology::Device & /*device*/) {
  return fail(ENODEV, "mock devices have no files");
}

Domains MockBackend::domains() const {
  Domains all;
  for (const auto &[id, device] : devices_)
    all.push_back(device.domain);
  return all;
}

} // namespace vfio_shim::test
