// SPDX-License-Identifier: MIT
#include "moment.h"

#include <stdexcept>
#include <thread>

namespace legacy {

using namespace std::chrono_literals;

std::chrono::microseconds Moment::pass() const {
  wait_for(ready_);
  const auto begin = std::chrono::steady_clock::now();
  go_.announce();
  wait_for(answered_);
  const auto end = std::chrono::steady_clock::now();
  go_on_.announce();
  return std::chrono::duration_cast<std::chrono::microseconds>(end - begin);
}

bool Moment::kill(SurvivingDaemon &daemon, std::chrono::microseconds delay) const {
  wait_for(ready_);
  go_.announce();
  std::this_thread::sleep_for(delay);
  daemon.kill_worker();
  const bool was_over = answered_.await(0s);
  EXPECT_TRUE(daemon.serves_again());
  EXPECT_TRUE(was_over || answered_.await()) << "the call is never answered";
  go_on_.announce();
  return !was_over;
}

void Moment::wait_for(const Signpost &signpost) {
  if (!signpost.await())
    throw std::runtime_error{"the other process does not get there"};
}

} // namespace legacy
