// SPDX-License-Identifier: MIT
#include "witness.hpp"

namespace chaos {

Witness::Glances Witness::begin(const std::string &doing) {
  Glances glances;
  for (std::size_t i = 0; i < excuse_count; ++i) {
    glances.of_place[i] = place_.windows[i].glance();
    glances.of_all[i] = board_.windows[i].glance();
  }
  desk_.begin(doing);
  return glances;
}

void Witness::end(legacy::Answer answer) {
  desk_.end(legacy::to_string(answer));
  ++board_.sums.calls;
  if (!answer.ok())
    ++board_.sums.refused;
}

void Witness::judge(CallKind kind, const Glances &before, legacy::Answer answer,
                    const std::string &instead) const {
  // What is accounted to the client is pinned by the client, whatever it is.
  if (kind == CallKind::map_shared && place_.bound)
    kind = CallKind::map_private;
  std::string windows;
  for (std::size_t i = 0; i < excuse_count; ++i) {
    if (!place_.windows[i].was_open_since(before.of_place[i]) &&
        !board_.windows[i].was_open_since(before.of_all[i]))
      continue;
    const auto excuse = static_cast<Excuse>(i);
    windows += windows.empty() ? "; meanwhile " : ", ";
    windows += to_string(excuse);
    // Without its group a container may also have nothing to unmap.
    const bool taken = excuse == Excuse::device_taken;
    if (answer.ok() ? !taken : !excuses(excuse, kind, answer.error()))
      continue;
    ++board_.sums.excused;
    if (taken)
      throw GivesUp{};
    return;
  }
  throw Complaint{std::string{desk_.doing.data()} + " answered " + legacy::to_string(answer) +
                  ", " + instead + windows};
}

void Witness::require(bool holds, const std::string &what) const {
  if (!holds)
    throw Complaint{what};
}

} // namespace chaos
