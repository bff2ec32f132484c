// SPDX-License-Identifier: MIT
/// @file
/// The worker's end of what its keeper keeps.
#pragma once

#include "vfio_shim/file_store.hpp"

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "keeper/keeper.hpp"
#include "keeper/message.hpp"

namespace vfio_shim::keeper {

/// Keeps files with the keeper. Thread-safe.
class WorkerStore final : public FileStore {
public:
  /// @param next_number Gives each file that is kept its number.
  WorkerStore(Fd keeper, KeptFiles files, std::function<Number()> next_number)
      : keeper_(std::move(keeper)),
        inherited_(std::move(files)),
        next_number_(std::move(next_number)) {}

  Result<Number> keep(const Fd &file) override;
  void drop(Number number) override;
  Fd adopt(Number number) override;

  /// The same for files that are known by names which do not begin with a digit.
  Result<void> keep_as(const std::string &name, const Fd &file);
  void drop_name(const std::string &name);
  Fd adopt_name(const std::string &name);
  /// The names of inherited files that begin like that and that nobody has adopted.
  std::vector<std::string> names_with(std::string_view beginning);

  /// Drops everything.
  void drop_all();

  /// Drops what was inherited and not adopted: nobody knows what it was for.
  void drop_the_rest();

  /// Tells the keeper something else. See message.hpp.
  void tell(std::string_view line, int file = -1);

private:
  void request(const std::string &text);

  Fd keeper_;
  std::mutex mutex_; ///< Guards what follows, and that answers reach who has asked.
  KeptFiles inherited_;
  const std::function<Number()> next_number_;
};

} // namespace vfio_shim::keeper
