// SPDX-License-Identifier: MIT
#include "crowd.h"

#include "client/client.h"
#include "client/fd.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace bench {
namespace {

using namespace legacy;
using namespace std::chrono_literals;

constexpr Iova first_iova{0x1'0000'0000};
constexpr Bytes distance = page * 16;

/// The messages of a crowd's processes to one another, in memory that all of them have.
struct Board {
  static constexpr unsigned most_clients = 256;

  std::atomic<unsigned> ready;
  std::atomic<bool> start;
  std::atomic<bool> stop;
  std::atomic<std::uint64_t> calls[most_clients];
};

class SharedBoard {
public:
  SharedBoard()
      : board_{static_cast<Board *>(::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                                           MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {
    if (board_ == MAP_FAILED)
      throw std::system_error{errno, std::generic_category(), "mmap"};
  }
  SharedBoard(const SharedBoard &) = delete;
  SharedBoard &operator=(const SharedBoard &) = delete;
  ~SharedBoard() { ::munmap(board_, sizeof(Board)); }

  Board *operator->() const { return board_; }

private:
  Board *board_;
};

void wait_for(const std::atomic<bool> &flag) {
  while (!flag)
    std::this_thread::sleep_for(1ms);
}

/// The life of one client.
void map_and_unmap(const Container &container, const SharedBoard &board, unsigned number) {
  const Memory memory = Memory::allocate(MemoryKind::Anonymous, page);
  const Iova iova = first_iova + distance * number;
  const auto call = [&] {
    container.map(iova, memory).or_throw("map");
    container.unmap(iova, page).or_throw("unmap");
  };
  call(); // The first one is dearer.
  ++board->ready;
  wait_for(board->start);
  while (!board->stop) {
    call();
    board->calls[number] += 2;
  }
}

/// The life of one process, with the clients `first`, `first + step` and so on.
int serve_as(const Provider &provider, const PciDevice &device, const SharedBoard &board,
             unsigned first, unsigned step, unsigned clients) {
  try {
    const Client client{provider, device};
    std::vector<std::thread> threads;
    std::atomic<bool> failed = false;
    for (unsigned number = first; number < clients; number += step)
      threads.emplace_back([&, number] {
        try {
          map_and_unmap(client.container, board, number);
        } catch (const std::exception &cause) {
          std::cerr << "vfio-bench: client " << number << ": " << cause.what() << '\n';
          failed = true;
        }
      });
    for (std::thread &thread : threads)
      thread.join();
    return failed ? 1 : 0;
  } catch (const std::exception &cause) {
    std::cerr << "vfio-bench: " << cause.what() << '\n';
    return 1;
  }
}

/// The processes of a crowd. What still runs at the end is killed.
class Processes {
public:
  Processes() = default;
  Processes(const Processes &) = delete;
  Processes &operator=(const Processes &) = delete;
  ~Processes() {
    for (const pid_t process : all_) {
      ::kill(process, SIGKILL);
      ::waitpid(process, nullptr, 0);
    }
  }

  template <typename Body>
  void start(const Body &body) {
    const pid_t process = ::fork();
    if (process < 0)
      throw std::system_error{errno, std::generic_category(), "fork"};
    if (process == 0)
      ::_exit(body());
    all_.push_back(process);
  }

  bool any_has_ended() {
    return std::any_of(all_.begin(), all_.end(), [](pid_t process) {
      siginfo_t ended{};
      return ::waitid(P_PID, process, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
             ended.si_pid != 0;
    });
  }

  /// Throws std::runtime_error when one has failed.
  void wait() {
    bool failed = false;
    for (const pid_t process : std::exchange(all_, {})) {
      int status = 0;
      failed |= ::waitpid(process, &status, 0) != process || status != 0;
    }
    if (failed)
      throw std::runtime_error{"a client has failed"};
  }

private:
  std::vector<pid_t> all_;
};

/// One crowd on one provider. @return The calls of each.
std::vector<double> run_crowd(const Provider &provider, const std::vector<PciDevice> &devices,
                              unsigned clients) {
  constexpr auto turn = 1s;
  const SharedBoard board;
  Processes processes;
  const auto step = std::min(clients, static_cast<unsigned>(devices.size()));
  for (unsigned first = 0; first < step; ++first)
    processes.start(
        [&] { return serve_as(provider, devices[first], board, first, step, clients); });
  while (board->ready < clients) {
    if (processes.any_has_ended())
      processes.wait();
    std::this_thread::sleep_for(1ms);
  }
  board->start = true;
  std::this_thread::sleep_for(turn);
  std::vector<double> calls;
  for (unsigned number = 0; number < clients; ++number)
    calls.push_back(static_cast<double>(board->calls[number]) /
                    std::chrono::duration<double>(turn).count());
  board->stop = true;
  processes.wait();
  return calls;
}

} // namespace

Measurements run_crowds(const Plan &plan, const std::vector<PciDevice> &devices,
                        const std::vector<unsigned> &crowds) {
  Measurements measurements;
  for (const unsigned clients : crowds) {
    if (clients == 0 || clients > Board::most_clients)
      throw std::runtime_error{fmt::format("1 to {} clients", Board::most_clients)};
    plan.progress(fmt::format("{} clients", clients));
    const std::string rate = fmt::format("calls per second, clients: {}", clients);
    const std::string slowest = fmt::format("slowest / mean, clients: {}", clients);
    for (unsigned round = 0; round < plan.rounds; ++round)
      for (const Provider &provider : plan.providers) {
        const std::vector<double> calls = run_crowd(provider, devices, clients);
        const double all = std::accumulate(calls.begin(), calls.end(), 0.0);
        measurements.of(rate, provider.name).add(all);
        measurements.of(slowest, provider.name)
            .add(all > 0 ? *std::min_element(calls.begin(), calls.end()) * clients / all : 0);
      }
  }
  return measurements;
}

} // namespace bench
