// SPDX-License-Identifier: MIT
#pragma once

#include <rapidcheck.h>

#include "operation.h"

namespace twin {

/// Parts of the API that random scripts leave alone.
struct Scope {
  bool dirty_tracking = true;
  bool update_vaddr = true;
  bool set_up = true;       ///< Containers and groups, once the script has begun.
  bool iommufds_own = true; ///< The ioctls of <linux/iommufd.h>.
};

/// Scripts of up to `length` operations and a beginning, which mostly is what every program begins
/// with. They shrink to fewer and simpler operations.
rc::Gen<Script> scripts(Scope scope, int length);

} // namespace twin
