// SPDX-License-Identifier: MIT
#include "client/descriptor_reserve.hpp"

#include <algorithm>
#include <cerrno>

#include <sys/eventfd.h>
#include <sys/resource.h>

namespace vfio_shim::client {

namespace {

/// The first number of the reserve.
rlim_t first_reserved() {
  constexpr rlim_t most_reserved = 64;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return 0;
  return limit.rlim_cur - std::min(most_reserved, limit.rlim_cur / 4);
}

tl::unexpected<Error> no_room() {
  return fail_for_operator(ENFILE, "the daemon has hardly any descriptors left: it needs a higher "
                                   "limit of open files (LimitNOFILE of its unit, or ulimit -n)");
}

} // namespace

bool lies_in_reserve(const Fd &file) {
  return file && static_cast<rlim_t>(file.get()) >= first_reserved();
}

Result<Fd> outside_reserve(Fd file) {
  if (lies_in_reserve(file))
    return no_room();
  return file;
}

Result<void> room_for_lasting_descriptors() {
  const Fd next{::eventfd(0, EFD_CLOEXEC)};
  if (!next && errno != EMFILE)
    return fail_errno("eventfd");
  if (!next || lies_in_reserve(next))
    return no_room();
  return {};
}

} // namespace vfio_shim::client
