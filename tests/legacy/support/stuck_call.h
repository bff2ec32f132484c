// SPDX-License-Identifier: MIT
#pragma once

#include "client/container.h"

#include <functional>
#include <iosfwd>
#include <string>

namespace legacy {

/// What a call waits for, for ever: its argument, a place for its answer, or the memory to map.
enum class StuckIn { Argument, Answer, Memory };

/// "Argument" and so on.
std::string to_string(StuckIn where);
std::ostream &operator<<(std::ostream &out, StuckIn where);
/// The one of that name. Throws std::runtime_error when there is none.
StuckIn stuck_in(const std::string &name);

/// Makes a call on `container` that does not come back, and calls `when_stuck` as soon as it waits,
/// from another thread. Ends the process, and says so, if the call comes back.
/// @param calls How many quick ones to make just before.
[[noreturn]] void get_stuck(const Container &container, StuckIn where,
                            const std::function<void()> &when_stuck, int calls = 0);

} // namespace legacy
