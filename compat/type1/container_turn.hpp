// SPDX-License-Identifier: MIT
/// @file
/// One thread's turn with a container.
#pragma once

#include "vfio_shim/container.hpp"

#include <mutex>

namespace vfio_shim {

/// The container's lock. Whoever has it does what others put off because of it, and
/// writes down at its end what has become of the backend.
class Container::Turn {
public:
  /// Waits for the call that is being served.
  explicit Turn(Container &container) : container_(container), lock_(container.mutex_) {
    container_.catch_up();
  }
  /// Waits for nobody. With a client that maps by itself, what others put off is left to
  /// Container::aside_.
  Turn(Container &container, std::try_to_lock_t /*instead_of_waiting*/)
      : container_(container),
        lock_(container.mutex_, std::try_to_lock),
        catches_up_(!container.express_file()) {
    if (has_come() && catches_up_)
      container_.catch_up();
  }
  Turn(const Turn &) = delete;
  Turn &operator=(const Turn &) = delete;
  ~Turn() {
    if (!has_come())
      return;
    if (!catches_up_) {
      lock_.unlock();
      return;
    }
    // What is put off just before the lock is given up must not be left to nobody.
    do {
      container_.catch_up();
      container_.note_backend();
      lock_.unlock();
    } while (container_.put_off_ && lock_.try_lock());
  }

  bool has_come() const { return lock_.owns_lock(); }

private:
  Container &container_;
  std::unique_lock<std::mutex> lock_;
  bool catches_up_ = true;
};

} // namespace vfio_shim
