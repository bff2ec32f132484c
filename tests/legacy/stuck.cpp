// SPDX-License-Identifier: MIT
// A client whose call does not end: legacy_stuck PREFIX DEVICE [Argument|Answer|Memory]. Prints
// "stuck" when it is, and stays so until it is killed.

#include "client/client.h"

#include <exception>
#include <iostream>

#include "stuck_call.h"

int main(int argc, char **argv) {
  if (argc != 4) {
    std::cerr << "usage: legacy_stuck /dev/PREFIX DEVICE Argument|Answer|Memory\n";
    return 2;
  }
  using namespace legacy;
  try {
    const std::string nodes = argv[1];
    const Provider shim{
        .name = providers::shim, .container = nodes + "/vfio", .groups = nodes, .notes = {}};
    const Client client{shim, topology::at(argv[2])};
    get_stuck(client.container, stuck_in(argv[3]), [] { std::cout << "stuck" << std::endl; });
  } catch (const std::exception &thrown) {
    std::cerr << "legacy_stuck: " << thrown.what() << '\n';
    return 1;
  }
}
