// SPDX-License-Identifier: MIT
/// @file
/// Errors are errnos: what the outside world will be told, and where it came from.
#pragma once

#include <cerrno>
#include <string>
#include <tl/expected.hpp>

namespace vfio_shim {

/// Why something failed.
struct Error {
  int code = 0;      ///< A positive errno, as the client will see it.
  std::string where; ///< What was being done, for the log: "IOMMU_IOAS_MAP", "no device 0000:…".

  bool for_operator = false; ///< A matter of set-up, worth a warning in the log.

  /// "EFAULT (Bad address) at IOMMU_IOAS_MAP", for people.
  std::string describe() const;
};

/// The value, or an errno with its origin.
template <typename T>
using Result = tl::expected<T, Error>;

/// A failure with errno @p code; @p where says what was being done.
inline tl::unexpected<Error> fail(int code, std::string where) {
  return tl::unexpected<Error>(Error{code, std::move(where)});
}

/// A failure that the operator should hear of; @p where is a sentence.
inline tl::unexpected<Error> fail_for_operator(int code, std::string where) {
  return tl::unexpected<Error>(Error{code, std::move(where), true});
}

/// A failure carrying the calling thread's errno.
inline tl::unexpected<Error> fail_errno(std::string where) {
  return fail(errno, std::move(where));
}

/// Passes an error on to a caller that wants another kind of value.
template <typename T>
tl::unexpected<Error> pass_on(const Result<T> &failed) {
  return tl::unexpected<Error>(failed.error());
}

/// "EFAULT" for 14: the name that engineers search for.
std::string errno_name(int code);

} // namespace vfio_shim

/// Evaluates a Result<...> and returns its error from the enclosing function, if it has one.
#define VFIO_SHIM_TRY(expression)                                                                  \
  do {                                                                                             \
    if (auto vfio_shim_tried = (expression); !vfio_shim_tried)                                     \
      return ::vfio_shim::pass_on(vfio_shim_tried);                                                \
  } while (false)
