// SPDX-License-Identifier: MIT
#include "fault_injection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <ostream>
#include <stdexcept>

#include <fcntl.h>
#include <unistd.h>

#include "topology.h"

namespace legacy {
namespace {

const std::string debugfs = "/sys/kernel/debug/";
const std::string copy_fault = "fail_usercopy";
const std::string pretence = "fail_iommufd";
const std::array<std::string, 2> memory_faults{"failslab", "fail_page_alloc"};
const std::array<std::string, 4> faults{memory_faults[0], memory_faults[1], copy_fault, pretence};

std::string contents(const std::string &path) {
  const Fd file = Fd::open(path, O_RDONLY);
  std::array<char, 32> text{};
  const auto size = Answer::of(::read(file.number(), text.data(), text.size())).or_throw(path);
  return {text.data(), static_cast<std::size_t>(size)};
}

void write_to(const std::string &path, const std::string &text) {
  const Fd file = Fd::open(path, O_WRONLY);
  Answer::of(::write(file.number(), text.data(), text.size())).or_throw("write to " + path);
}

/// Whether what is to fail once has failed: the kernel counts down how often it may.
bool has_failed(const std::string &fault) {
  return std::atoi(contents(debugfs + fault + "/times").c_str()) == 0;
}

/// How many allocations there were left until one fails: 0 when it has.
unsigned long left_of(const Fd &counter) {
  std::array<char, 16> text{};
  // The copy of the answer is the next that can fail: then nothing had failed before.
  if (::pread(counter.number(), text.data(), text.size() - 1, 0) < 0)
    return 1;
  return std::strtoul(text.data(), nullptr, 10);
}

bool write_counter(const Fd &counter, unsigned nth) {
  const std::string text = std::to_string(nth);
  return ::pwrite(counter.number(), text.data(), text.size(), 0) > 0;
}

} // namespace

std::ostream &operator<<(std::ostream &out, Injected injected) {
  switch (injected) {
  case Injected::Nothing:
    return out << "nothing";
  case Injected::Memory:
    return out << "an allocation";
  case Injected::Copy:
    return out << "a copy";
  case Injected::Pretence:
    return out << "iommufd as it pretends";
  }
  return out;
}

FaultInjection::FaultInjection() {
  for (const PciDevice &device : topology::vfio_devices())
    if (contents("/sys/bus/pci/devices/" + device.address + "/enable") == "0\n")
      throw std::runtime_error{device.address + " is not enabled: see tests/inside --enabled"};
  set("failslab/ignore-gfp-wait", "N");
  set("fail_page_alloc/ignore-gfp-wait", "N");
  set("fail_page_alloc/ignore-gfp-highmem", "N");
  set("fail_page_alloc/min-order", "0");
  for (const std::string &fault : memory_faults) {
    set(fault + "/task-filter", "Y");
    set(fault + "/space", "0");
    set(fault + "/probability", "0");
  }
  for (const std::string &fault : faults) {
    set(fault + "/verbose", "0");
    set(fault + "/times", "1");
  }
}

FaultInjection::~FaultInjection() {
  for (const auto &[path, before] : changed_)
    write_to(path, before);
}

void FaultInjection::set(const std::string &name, const std::string &value) {
  const std::string path = debugfs + name;
  changed_.push_back({path, contents(path)});
  write_to(path, value);
}

void FaultInjection::prepare() {
  for (const std::string &fault : faults)
    write_to(debugfs + fault + "/times", "1");
}

Injected FaultInjection::what_failed() const {
  const auto failed = std::ranges::find_if(faults, has_failed);
  if (failed == faults.end())
    return Injected::Nothing;
  return *failed == copy_fault ? Injected::Copy
         : *failed == pretence ? Injected::Pretence
                               : Injected::Memory;
}

FailingThread::FailingThread(FaultInjection &injection)
    : injection_{injection}, counter_{Fd::open("/proc/thread-self/fail-nth", O_RDWR)} {}

void FailingThread::arm(unsigned nth) {
  injection_.prepare();
  if (!write_counter(counter_, nth))
    throw_errno("arming fail-nth");
}

Injected FailingThread::disarm() {
  const bool failed = left_of(counter_) == 0;
  while (!write_counter(counter_, 0) && errno == EFAULT) {
    // The copy of the 0 was the one to fail.
  }
  return failed ? injection_.what_failed() : Injected::Nothing;
}

FailingProcess::FailingProcess(FaultInjection & /*injection*/, pid_t pid) : pid_{pid} {}

void FailingProcess::arm(Kind kind, unsigned long room) {
  for (const auto &task :
       std::filesystem::directory_iterator{"/proc/" + std::to_string(pid_) + "/task"})
    write_to(task.path() / "make-it-fail", "1");
  for (const std::string &fault : memory_faults)
    write_to(debugfs + fault + "/times", "1");
  const std::string &fault = memory_faults[kind == Kind::Objects ? 0 : 1];
  write_to(debugfs + fault + "/space", std::to_string(room));
  write_to(debugfs + fault + "/probability", "100");
}

bool FailingProcess::disarm() {
  for (const std::string &fault : memory_faults)
    write_to(debugfs + fault + "/probability", "0");
  return std::ranges::any_of(memory_faults, has_failed);
}

} // namespace legacy
