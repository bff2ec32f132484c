// SPDX-License-Identifier: MIT
/// @file
/// Open files that outlive the process that opened them.
#pragma once

#include "vfio_shim/fd.hpp"
#include "vfio_shim/result.hpp"

#include <cstdint>
#include <utility>

namespace vfio_shim {

/// Keeps copies of open files for a process that may die, and gives them to the one that comes
/// after it. A program that embeds libvfio_compat may not care: the methods keep nothing unless
/// overridden. Thread-safe.
class FileStore {
public:
  /// The number of a file that is kept. 0: of none.
  using Number = std::uint64_t;

  FileStore() = default;
  FileStore(const FileStore &) = delete;
  FileStore &operator=(const FileStore &) = delete;
  virtual ~FileStore() = default;

  /// Keeps a copy of @p file, from the return on. @return Its number, which is never given again.
  virtual Result<Number> keep(const Fd & /*file*/) { return Number{0}; }

  /// Closes the copy. It is closed when this returns.
  virtual void drop(Number /*number*/) {}

  /// A descriptor of a file that the process before this one has kept. It stays kept.
  /// @return Nothing if there is none of that number.
  virtual Fd adopt(Number /*number*/) { return Fd{}; }
};

/// An open file, of which a store has a copy as long as this lives.
class KeptFile {
public:
  KeptFile() = default;

  /// @param store Outlives this.
  static Result<KeptFile> keep(Fd file, FileStore &store) {
    const auto number = store.keep(file);
    if (!number)
      return pass_on(number);
    return KeptFile(std::move(file), store, *number);
  }

  /// A file that the process before this one has kept. @return Nothing if there is none.
  static KeptFile adopt(FileStore::Number number, FileStore &store) {
    Fd file = number != 0 ? store.adopt(number) : Fd{};
    return file ? KeptFile(std::move(file), store, number) : KeptFile();
  }

  KeptFile(KeptFile &&other) noexcept { swap(other); }
  KeptFile &operator=(KeptFile &&other) noexcept {
    KeptFile(std::move(other)).swap(*this);
    return *this;
  }
  KeptFile(const KeptFile &) = delete;
  KeptFile &operator=(const KeptFile &) = delete;
  ~KeptFile() { reset(); }

  explicit operator bool() const { return static_cast<bool>(file_); }
  const Fd &file() const { return file_; }
  FileStore::Number number() const { return number_; }

  /// Closes both. The copy goes first: the end of a file can take long, and is ours to wait for.
  void reset() {
    if (number_ != 0)
      store_->drop(std::exchange(number_, 0));
    file_.reset();
  }

private:
  KeptFile(Fd file, FileStore &store, FileStore::Number number)
      : file_(std::move(file)), store_(&store), number_(number) {}

  void swap(KeptFile &other) noexcept {
    std::swap(file_, other.file_);
    std::swap(store_, other.store_);
    std::swap(number_, other.number_);
  }

  Fd file_;
  FileStore *store_ = nullptr;
  FileStore::Number number_ = 0;
};

} // namespace vfio_shim
