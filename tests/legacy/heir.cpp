// SPDX-License-Identifier: MIT
// What a program that execs while its device goes on becomes: legacy_heir CONTAINER DEVICE MEMORY
// IOVA. The first three are descriptors, the last is where the memory is mapped, its address
// invalidated. Exits with 0 if the device reaches that memory and memory of its own.

#include "client/container.h"
#include "client/device.h"
#include "client/edu.h"
#include "client/memory.h"

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include <sys/mman.h>
#include <sys/stat.h>

namespace {

using namespace legacy;

constexpr std::uint32_t seed = 23;

void require(bool holds, const std::string &what) {
  if (!holds)
    throw std::runtime_error{what};
}

Memory map_all_of(Fd file) {
  struct stat status {};
  require(::fstat(file.number(), &status) == 0, "fstat of the memory");
  const Bytes size{static_cast<std::uint64_t>(status.st_size)};
  return {std::move(file), size, PROT_READ | PROT_WRITE, MAP_SHARED};
}

void expect_dma_between(const Edu &edu, Iova from, const Memory &source, Iova to,
                        const Memory &target) {
  source.fill({0}, Edu::largest_transfer, seed);
  edu.fetch(from, Edu::largest_transfer);
  edu.store(to, Edu::largest_transfer);
  require(target.holds({0}, Edu::largest_transfer, seed), "the device did not reach the memory");
}

void inherit(Fd container_file, Fd device_file, Fd memory_file, Iova iova) {
  const Container container{std::move(container_file)};
  const Device device{std::move(device_file)};
  const Memory inherited = map_all_of(std::move(memory_file));
  const Edu edu{device};

  require(container.update_vaddr(iova, inherited.data(), inherited.size()) == succeeds,
          "the inherited mapping takes no new address");
  const Memory own{page};
  const Iova own_iova = iova + inherited.size();
  require(container.map(own_iova, own) == succeeds, "memory of its own does not map");
  expect_dma_between(edu, iova, inherited, own_iova, own);
  require(container.unmap(iova, inherited.size() + page) == unmaps(inherited.size() + page),
          "both mappings do not unmap");
}

} // namespace

int main(int argc, char **argv) {
  try {
    require(argc == 5, "usage: legacy_heir CONTAINER DEVICE MEMORY IOVA");
    inherit(Fd{std::stoi(argv[1])}, Fd{std::stoi(argv[2])}, Fd{std::stoi(argv[3])},
            Iova{std::stoull(argv[4])});
    return 0;
  } catch (const std::exception &cause) {
    std::cerr << "legacy_heir: " << cause.what() << "\n";
    return 1;
  }
}
