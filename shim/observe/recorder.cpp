// SPDX-License-Identifier: MIT
#include "observe/recorder.hpp"

#include "observe/process_identity.hpp"
#include "observe/text.hpp"
#include "observe/write_all.hpp"

#include <chrono>
#include <csignal>
#include <vector>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace vfio_shim::observe {

namespace {

using namespace std::chrono_literals;

/// How long a record may lie in the queue: what a crash can cost.
constexpr auto longest_delay = 20ms;
constexpr std::size_t records_per_write = 256;

trace::Header describe(std::string_view prefix, std::string_view backend) {
  const ProcessIdentity self = identify(Pid{::getpid()});
  utsname system{};
  (void)::uname(&system);
  trace::Header header{};
  header.magic = trace::magic;
  header.version = trace::version;
  header.header_size = sizeof(trace::Header);
  header.record_size = sizeof(trace::Record);
  header.daemon_pid = self.pid.value;
  header.daemon_started = self.started;
  header.began =
      std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  copy_text(system.release, header.kernel);
  copy_text(prefix, header.prefix);
  copy_text(backend, header.backend);
  return header;
}

/// A file that grows beyond RLIMIT_FSIZE is an error to handle, not a reason to die.
void take_no_file_size_signal() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGXFSZ);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

} // namespace

Result<std::unique_ptr<Recorder>> Recorder::create(const std::filesystem::path &file,
                                                   std::string_view prefix,
                                                   std::string_view backend) {
  Fd opened{::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  if (!opened)
    return fail_errno(file);
  const trace::Header header = describe(prefix, backend);
  if (::write(opened.get(), &header, sizeof(header)) != sizeof(header))
    return fail_errno(file);
  return std::unique_ptr<Recorder>(new Recorder(file, std::move(opened), Clock::now(), 0));
}

Result<std::unique_ptr<Recorder>> Recorder::go_on(const std::filesystem::path &file) {
  Fd opened{::open(file.c_str(), O_RDWR | O_CLOEXEC)};
  if (!opened)
    return fail_errno(file);
  trace::Header header{};
  if (::pread(opened.get(), &header, sizeof(header), 0) != sizeof(header) ||
      header.magic != trace::magic || header.version != trace::version)
    return fail(EPROTO, file);
  // Whoever reads it asks whether its writer lives.
  const ProcessIdentity self = identify(Pid{::getpid()});
  header.daemon_pid = self.pid.value;
  header.daemon_started = self.started;
  if (::pwrite(opened.get(), &header, sizeof(header), 0) != sizeof(header))
    return fail_errno(file);
  // A record that was written in part is cut off.
  const off_t size = ::lseek(opened.get(), 0, SEEK_END);
  constexpr off_t head = sizeof(header);
  constexpr off_t one = sizeof(trace::Record);
  const off_t whole = head + (size - head) / one * one;
  if (size < head || ::ftruncate(opened.get(), whole) != 0 ||
      ::lseek(opened.get(), whole, SEEK_SET) != whole)
    return fail_errno(file);
  const std::chrono::nanoseconds now = std::chrono::system_clock::now().time_since_epoch();
  const auto began = Clock::now() - (now - std::chrono::nanoseconds(header.began));
  return std::unique_ptr<Recorder>(new Recorder(file, std::move(opened), began,
                                                static_cast<std::uint64_t>((whole - head) / one)));
}

Recorder::Recorder(std::filesystem::path path, Fd file, Clock::time_point began,
                   std::uint64_t written)
    : path_(std::move(path)),
      file_(std::move(file)),
      began_(began),
      written_(written),
      writer_([this](const std::stop_token &stop) { write_as_they_come(stop); }) {}

Recorder::~Recorder() {
  finish();
}

void Recorder::pause() {
  goes_on_ = true;
  finish();
}

void Recorder::finish() {
  writer_.request_stop();
  if (writer_.joinable())
    writer_.join();
}

void Recorder::add(const trace::Record &record) {
  if (failed_.load(std::memory_order_relaxed) || !queue_.bounded_push(record))
    lost_.fetch_add(1, std::memory_order_relaxed);
}

void Recorder::write_as_they_come(const std::stop_token &stop) {
  take_no_file_size_signal();
  while (!stop.stop_requested()) {
    write_what_is_there();
    std::unique_lock lock(mutex_);
    // Nobody wakes it but the end: waking costs more than a call may be slowed by.
    stopping_.wait_for(lock, stop, longest_delay, [] { return false; });
  }
  write_what_is_there();
  if (!goes_on_)
    write_end();
}

void Recorder::write_what_is_there() {
  std::vector<trace::Record> records;
  const auto flush = [&] {
    write(records.data(), records.size() * sizeof(trace::Record));
    if (failed_)
      lost_ += records.size();
    else
      written_ += records.size();
    records.clear();
  };
  for (trace::Record record{}; queue_.pop(record);) {
    records.push_back(record);
    if (records.size() == records_per_write)
      flush();
  }
  if (!records.empty())
    flush();
}

void Recorder::write_end() {
  trace::Record end{};
  end.kind = trace::Kind::end;
  end.at = static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now() - began_).count());
  end.argument = written_;
  end.result = static_cast<std::int64_t>(lost_.load());
  write(&end, sizeof(end));
}

void Recorder::write(const void *bytes, std::size_t size) {
  if (failed_)
    return;
  const auto written = write_all(file_, {static_cast<const std::byte *>(bytes), size});
  if (written)
    return;
  failed_ = true;
  spdlog::error("{}: {}: the recording ends here, the daemon goes on", path_.string(),
                errno_name(written.error().code));
}

} // namespace vfio_shim::observe
