// SPDX-License-Identifier: MIT
#include "unbinding.h"

#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "patience.h"

namespace legacy {
namespace {

using namespace std::chrono_literals;

constexpr const char *driver = "/sys/bus/pci/drivers/vfio-pci/";

bool write_address(const std::string &file, const std::string &address) {
  std::ofstream out{driver + file};
  out << address << std::flush;
  return out.good();
}

bool is_there(const std::string &node) {
  return ::access(node.c_str(), F_OK) == 0;
}

} // namespace

Unbinding::Unbinding(const PciDevice &device)
    : address_{device.address}, unbound_{std::async(std::launch::async, [address = address_] {
        return write_address("unbind", address);
      })} {}

Unbinding::~Unbinding() {
  unbound_.wait();
  EXPECT_TRUE(write_address("bind", address_));
}

bool Unbinding::ends_within(std::chrono::milliseconds patience) const {
  return unbound_.wait_for(patience) == std::future_status::ready;
}

bool appears(const Provider &provider, const PciDevice &device) {
  const std::string node = provider.group_path(device.group);
  return within(10s, [&] { return is_there(node); });
}

bool disappears(const Provider &provider, const PciDevice &device) {
  const std::string node = provider.group_path(device.group);
  return within(10s, [&] { return !is_there(node); });
}

} // namespace legacy
