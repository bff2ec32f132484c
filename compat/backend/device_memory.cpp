// SPDX-License-Identifier: MIT
#include "backend/device_memory.hpp"

#include "abi/vfio.hpp"

#include <algorithm>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "shortage.hpp"

namespace vfio_shim {

namespace {

constexpr std::uint64_t page_size = 4096;

Result<FileIdentity> identify(const Fd &file) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    return fail_errno("fstat of a cdev");
  return FileIdentity{.filesystem = status.st_dev, .inode = status.st_ino};
}

/// Whether it is the machine that has no room, for something that it could do otherwise.
bool is_for_want_of_room(int code) {
  return is_shortage(code) || code == EFAULT;
}

Result<Fd> export_bar(const Fd &cdev, std::uint32_t index) {
  vfio_region_info region{};
  region.argsz = sizeof(region);
  region.index = index;
  if (::ioctl(cdev.get(), VFIO_DEVICE_GET_REGION_INFO, &region) != 0)
    return fail_errno("VFIO_DEVICE_GET_REGION_INFO");
  if ((region.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0 || region.size % page_size != 0)
    return fail(ENODEV, fmt::format("BAR {} cannot be mapped", index));
  abi::FeatureDmaBuf request{.argsz = sizeof(request),
                             .flags = VFIO_DEVICE_FEATURE_GET | abi::feature_dma_buf,
                             .region_index = index,
                             .open_flags = O_RDWR | O_CLOEXEC,
                             .dma_buf_flags = 0,
                             .nr_ranges = 1,
                             .offset = 0,
                             .length = region.size};
  Fd exported{::ioctl(cdev.get(), VFIO_DEVICE_FEATURE, &request)};
  if (exported)
    return exported;
  // ENOTTY: the kernel has never heard of it, or is built without it.
  return fail(errno == ENOTTY ? EOPNOTSUPP : errno, "VFIO_DEVICE_FEATURE_DMA_BUF");
}

} // namespace

Result<std::shared_ptr<const ExportedBars>> ExportedBars::of(const Fd &cdev, FileStore &store) {
  const auto file = identify(cdev);
  if (!file)
    return pass_on(file);
  const std::shared_ptr<ExportedBars> exported(new ExportedBars(*file));
  for (std::uint32_t index = 0; index < bar_count; ++index) {
    auto bar = export_bar(cdev, index);
    if (!bar && is_for_want_of_room(bar.error().code))
      return pass_on(bar);
    exported->bars_[index] = bar ? KeptFile::keep(std::move(*bar), store) : pass_on(bar);
    if (bar && !exported->bars_[index])
      return pass_on(exported->bars_[index]);
  }
  return exported;
}

std::shared_ptr<const ExportedBars> ExportedBars::adopt(const BackendState::Device &state,
                                                        FileStore &store) {
  const std::shared_ptr<ExportedBars> adopted(
      new ExportedBars({.filesystem = state.filesystem, .inode = state.inode}));
  for (std::uint32_t index = 0; index < bar_count; ++index) {
    KeptFile bar = KeptFile::adopt(state.bars[index], store);
    adopted->bars_[index] = bar ? Result<KeptFile>(std::move(bar))
                                : fail(ENODEV, fmt::format("BAR {} was not exported", index));
  }
  return adopted;
}

void ExportedBars::describe(BackendState::Device &state) const {
  state.filesystem = file_.filesystem;
  state.inode = file_.inode;
  for (std::uint32_t index = 0; index < bar_count; ++index)
    state.bars[index] = bars_[index] ? bars_[index]->number() : 0;
}

Result<Fd> ExportedBars::bar(std::uint32_t index) const {
  if (index >= bar_count)
    return fail(ENODEV, fmt::format("region {} is no BAR", index));
  const Result<KeptFile> &exported = bars_[index];
  if (!exported)
    return pass_on(exported);
  Fd copy = exported->file().duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

DeviceMemory::DeviceMemory(std::function<void(const Error &)> report_unsupported)
    : report_unsupported_(std::move(report_unsupported)) {}

Result<std::shared_ptr<const ExportedBars>> DeviceMemory::add(const Fd &cdev, FileStore &store) {
  auto bars = ExportedBars::of(cdev, store);
  if (bars)
    note(*bars);
  return bars;
}

std::shared_ptr<const ExportedBars> DeviceMemory::adopt(const BackendState::Device &state,
                                                        FileStore &store) {
  auto bars = ExportedBars::adopt(state, store);
  note(bars);
  return bars;
}

void DeviceMemory::note(const std::shared_ptr<const ExportedBars> &bars) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(exported_, [](const auto &entry) { return entry.expired(); });
  exported_.push_back(bars);
}

Result<Fd> DeviceMemory::find(const FileIdentity &file, std::uint32_t index) {
  const std::scoped_lock lock(mutex_);
  // The latest is the one that can be open: a cdev is bound only once.
  // NOLINTNEXTLINE(modernize-loop-convert): clang 14 cannot read libstdc++'s views.
  for (auto entry = exported_.rbegin(); entry != exported_.rend(); ++entry) {
    const auto bars = entry->lock();
    if (!bars || bars->file() != file)
      continue;
    auto found = bars->bar(index);
    if (!found && found.error().code == EOPNOTSUPP && report_unsupported_ &&
        !std::exchange(reported_, true))
      report_unsupported_(found.error());
    return found;
  }
  return fail(ENODEV, "no device that is open here");
}

} // namespace vfio_shim
