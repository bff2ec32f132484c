// SPDX-License-Identifier: MIT
/// @file
/// Which device numbers a daemon's nodes have, from one start to the next.
#pragma once

#include "cuse/device_numbers.hpp"

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace vfio_shim::daemon {

/// Where device numbers are remembered, locked and seen. Other places serve tests.
struct NumberPlaces {
  NumberPlaces(); ///< The machine's own.

  std::filesystem::path state; ///< Of the book.
  std::filesystem::path locks; ///< Of what daemons use now.
  std::filesystem::path proc = "/proc";
  std::filesystem::path sys = "/sys";
};

/// What is remembered: the major of all daemons, and each prefix's block of its minors.
struct NumberBook {
  unsigned int major = 0; ///< 0: none yet.
  std::map<std::string, unsigned int> blocks;

  /// Lines that make no sense are left out.
  static NumberBook parse(std::string_view text);
  std::string text() const;

  /// @return An empty book if there is none.
  static NumberBook read(const NumberPlaces &places);
  Result<void> write(const NumberPlaces &places) const;
};

/// The majors of character devices that somebody else has: no CUSE node.
std::set<unsigned int> majors_of_others(const NumberPlaces &places);

/// A major that nobody has; 0: there is none.
///
/// The kernel's documentation sets 120 to 127 and 60 to 63 aside for local use. The kernel gives
/// them to nobody by itself, so they do not depend on the order in which drivers are loaded.
unsigned int choose_major(const NumberPlaces &places);

/// A daemon's block of numbers, while this lives or, however it ends, its process does.
class ReservedNumbers {
public:
  /// Reserves the block that @p prefix had the last time, or a free one.
  ///
  /// Another major is taken, with a warning, if a driver has come to have ours. If there are no
  /// numbers at all the block's major is 0, with a warning.
  /// @param remember Whether the prefix will be served again.
  static Result<ReservedNumbers> reserve(const std::string &prefix, bool remember,
                                         const NumberPlaces &places = {});
  /// Goes on with what the program before this one has reserved. @param locks Its lock_file().
  static ReservedNumbers inherit(Fd locks, const std::string &prefix,
                                 const NumberPlaces &places = {});

  /// Who has this open has the numbers.
  const Fd &lock_file() const { return locks_; }

  const cuse::NumberBlock &block() const { return block_; }

private:
  ReservedNumbers(Fd locks, cuse::NumberBlock block) : locks_(std::move(locks)), block_(block) {}

  Fd locks_;
  cuse::NumberBlock block_;
};

} // namespace vfio_shim::daemon
