#include "rules/dirty_bitmap.hpp"

#include <bit>

#include "rules/user_space.hpp"

namespace vfio_shim::rules {

Result<void> check_dirty_bitmap(const vfio_bitmap &bitmap, Bytes range) {
  const Bytes size{bitmap.size};
  if (!within_user_space(address_of(bitmap), size))
    return fail(EINVAL, "bitmap not in user memory");
  const std::uint64_t pages =
      bitmap.pgsize == 0 ? 0 : range.value >> std::countr_zero(bitmap.pgsize);
  if (pages == 0 || size > max_dirty_bitmap_size || size < dirty_bitmap_size(pages))
    return fail(EINVAL, "bitmap of a size that does not fit");
  return {};
}

} // namespace vfio_shim::rules
