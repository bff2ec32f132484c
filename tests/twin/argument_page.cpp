// SPDX-License-Identifier: MIT
#include "argument_page.h"

#include <algorithm>

#include <sys/mman.h>

namespace twin {
namespace {

using legacy::page;

constexpr std::byte untouched{0xa5};

} // namespace

ArgumentPage::ArgumentPage() : memory_{page * 2}, before_(page.count) {
  memory_.protect(page, page, PROT_NONE);
}

void *ArgumentPage::put(std::span<const std::byte> argument, Place place) {
  if (read_only_)
    memory_.protect({0}, page, PROT_READ | PROT_WRITE);
  std::ranges::fill(before_, untouched);
  const std::size_t there = place == Place::Absent ? 0 : argument.size() - (place == Place::Cut);
  start_ = memory_.data() + page.count - there;
  std::ranges::copy(argument.first(there), before_.end() - static_cast<std::ptrdiff_t>(there));
  std::ranges::copy(before_, memory_.data());
  read_only_ = place == Place::ReadOnly;
  if (read_only_)
    memory_.protect({0}, page, PROT_READ);
  return place == Place::Null ? nullptr : start_;
}

std::map<std::int64_t, std::byte> ArgumentPage::changes() const {
  std::map<std::int64_t, std::byte> changed;
  for (std::size_t at = 0; at < before_.size(); ++at)
    if (memory_.data()[at] != before_[at])
      changed.emplace(memory_.data() + at - start_, memory_.data()[at]);
  return changed;
}

void ArgumentPage::get_bytes(std::span<std::byte> bytes) const {
  const auto end = memory_.data() + page.count;
  const auto there = std::min<std::size_t>(bytes.size(), end - start_);
  std::copy_n(start_, there, bytes.begin());
}

} // namespace twin
