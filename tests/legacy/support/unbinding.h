// SPDX-License-Identifier: MIT
#pragma once

#include "client/provider.h"
#include "client/topology.h"

#include <chrono>
#include <future>
#include <string>

namespace legacy {

/// Unbinds a device from vfio-pci, which may take its time, and binds it again at the end.
class Unbinding {
public:
  explicit Unbinding(const PciDevice &device);
  ~Unbinding();
  Unbinding(const Unbinding &) = delete;
  Unbinding &operator=(const Unbinding &) = delete;

  bool ends_within(std::chrono::milliseconds patience) const;

private:
  std::string address_;
  std::future<bool> unbound_;
};

/// Whether the node of the device's group appears within 10 seconds, or disappears.
bool appears(const Provider &provider, const PciDevice &device);
bool disappears(const Provider &provider, const PciDevice &device);

} // namespace legacy
