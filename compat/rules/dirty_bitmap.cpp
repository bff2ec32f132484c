// SPDX-License-Identifier: MIT
#include "rules/dirty_bitmap.hpp"

#include "rules/user_space.hpp"

#include <bit>

namespace vfio_shim::rules {

Result<void> check_dirty_bitmap(const Bitmap &bitmap, Bytes range) {
  if (!within_user_space(bitmap.address, bitmap.size))
    return fail(EINVAL, "bitmap not in user memory");
  const std::uint64_t pages =
      bitmap.page_size == Bytes{} ? 0 : range.value >> std::countr_zero(bitmap.page_size.value);
  if (pages == 0 || bitmap.size > max_dirty_bitmap_size || bitmap.size < dirty_bitmap_size(pages))
    return fail(EINVAL, "bitmap of a size that does not fit");
  return {};
}

} // namespace vfio_shim::rules
