// SPDX-License-Identifier: MIT
#include "heir.hpp"

#include "client/container.h"
#include "client/memory.h"

#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <linux/vfio.h>
#include <unistd.h>

#include "lane.hpp"
#include "life.hpp"
#include "process.hpp"
#include "witness.hpp"

namespace chaos {

using namespace legacy;

namespace {

constexpr const char *told = "--heir";
constexpr const char *own_program = "/proc/self/exe";

/// What its predecessor had mapped goes, and memory of its own can be mapped.
void inherit(Witness &witness, const Container &container) {
  witness.must(CallKind::ask, "GET_API_VERSION after exec", answers(VFIO_API_VERSION),
               [&] { return container.api_version(); });
  const auto unmap_all = [&] { return container.unmap_all(); };
  while (!witness.must_succeed(CallKind::unmap, "unmap all after exec", unmap_all).ok()) {
  } // Excused, and so not for ever.
  const Memory memory{page * 4};
  for (int i = 0; i < 4; ++i) {
    const Answer mapped = witness.must(CallKind::map_private, "map after exec", succeeds,
                                       [&] { return container.map(Lane::behind_all, memory); });
    if (mapped == succeeds)
      witness.must_in_the_end(CallKind::unmap, "unmap after exec", unmaps(memory.size()),
                              [&] { return container.unmap(Lane::behind_all, memory.size()); });
  }
}

} // namespace

void become_heir(int place, int container) {
  ignore_signals();
  const std::string place_text = std::to_string(place), container_text = std::to_string(container);
  ::execl(own_program, "chaos-heir", told, place_text.c_str(), container_text.c_str(), nullptr);
  throw_errno("exec");
}

void be_an_heir_if_told(int argc, char **argv) {
  if (argc != 4 || std::strcmp(argv[1], told) != 0)
    return;
  Board &board = Board::inherit();
  const int place = std::stoi(argv[2]);
  Witness witness{board, place, main_desk};
  try {
    inherit(witness, Container{Fd{std::stoi(argv[3])}});
  } catch (const GivesUp &) {
  } catch (const std::exception &thrown) {
    witness.place().complain(thrown.what());
    ::_exit(exit_complained);
  }
  ::_exit(0);
}

} // namespace chaos
