// SPDX-License-Identifier: MIT
#include "stuck_call.h"

#include <array>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <thread>
#include <utility>

#include <unistd.h>

#include "missing_page.h"

namespace legacy {
namespace {

constexpr std::array<std::pair<StuckIn, const char *>, 3> names{
    {{StuckIn::Argument, "Argument"}, {StuckIn::Answer, "Answer"}, {StuckIn::Memory, "Memory"}}};

/// Where the memory that is not there is mapped: out of the way of other mappings.
constexpr Iova stuck_iova{0x8000000};

/// VFIO_IOMMU_GET_INFO whose struct fills the present page's end, and whose capabilities would be
/// written to the missing one.
void ask_for_info_at_the_edge(const Container &container, const MissingPage &pages) {
  vfio_iommu_type1_info info{};
  info.argsz = sizeof(info) + static_cast<std::uint32_t>(page.count);
  std::byte *const argument = pages.missing() - sizeof(info);
  std::memcpy(argument, &info, sizeof(info));
  container.fd().ioctl(VFIO_IOMMU_GET_INFO, argument);
}

} // namespace

std::string to_string(StuckIn where) {
  for (const auto &[each, name] : names)
    if (each == where)
      return name;
  return "?";
}

std::ostream &operator<<(std::ostream &out, StuckIn where) {
  return out << to_string(where);
}

StuckIn stuck_in(const std::string &name) {
  for (const auto &[each, its_name] : names)
    if (its_name == name)
      return each;
  throw std::runtime_error{"a call cannot get stuck in its " + name};
}

void get_stuck(const Container &container, StuckIn where, const std::function<void()> &when_stuck,
               int calls) {
  const MissingPage pages;
  const std::jthread watch{[&] {
    pages.await_fault();
    when_stuck();
  }};
  for (int n = 0; n < calls; ++n)
    container.api_version();
  switch (where) {
  case StuckIn::Argument:
    container.fd().ioctl(VFIO_IOMMU_MAP_DMA, pages.missing());
    break;
  case StuckIn::Answer:
    ask_for_info_at_the_edge(container, pages);
    break;
  case StuckIn::Memory:
    container.map(stuck_iova, pages.missing(), page);
    break;
  }
  std::cerr << "the call that was to get stuck came back\n";
  ::_exit(1);
}

} // namespace legacy
