// SPDX-License-Identifier: MIT
#include "daemon/number_book.hpp"

#include "observe/ledger_directory.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/state_directory.hpp"

namespace vfio_shim::daemon {

namespace fs = std::filesystem;

namespace {

using cuse::NumberBlock;

constexpr const char *book_name = "device-numbers";
constexpr const char *lock_name = "device-numbers.lock";

/// Block 0 is nobody's, so its place in the lock file is the book's.
constexpr unsigned int book_lock = 0;
constexpr unsigned int first_block = 1;

/// Locks a byte of the file until it is unlocked or the file is closed.
bool lock_byte(const Fd &file, unsigned int byte, bool wait) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_start = byte;
  lock.l_len = 1;
  return ::fcntl(file.get(), wait ? F_OFD_SETLKW : F_OFD_SETLK, &lock) == 0;
}

void unlock_byte(const Fd &file, unsigned int byte) {
  struct flock lock {};
  lock.l_type = F_UNLCK;
  lock.l_start = byte;
  lock.l_len = 1;
  ::fcntl(file.get(), F_OFD_SETLK, &lock);
}

/// Whether somebody has the block whom we have no lock in common with: a daemon in a container.
bool is_seen(const NumberPlaces &places, const NumberBlock &block) {
  std::error_code error;
  return fs::exists(places.sys / "dev/char" /
                        fmt::format("{}:{}", block.major, ::gnu_dev_minor(block.container())),
                    error);
}

/// Which blocks @p prefix may have, the best first.
std::vector<unsigned int> candidates(const NumberBook &book, const std::string &prefix,
                                     bool remember) {
  std::vector<unsigned int> wanted;
  if (const auto own = book.blocks.find(prefix); own != book.blocks.end())
    wanted.push_back(own->second);
  std::set<unsigned int> others;
  for (const auto &[name, block] : book.blocks)
    others.insert(block);
  std::vector<unsigned int> free;
  for (unsigned int block = first_block; block < NumberBlock::count; ++block)
    if (!others.contains(block))
      free.push_back(block);
  // Those who come and go stay out of the way of those who will be remembered.
  if (!remember)
    std::ranges::reverse(free);
  wanted.insert(wanted.end(), free.begin(), free.end());
  wanted.insert(wanted.end(), others.rbegin(), others.rend());
  return wanted;
}

/// Locks the first block that is free. @return Major 0 if none is.
NumberBlock take_block(const Fd &locks, const NumberPlaces &places, const NumberBook &book,
                       const std::string &prefix, bool remember) {
  for (const unsigned int index : candidates(book, prefix, remember)) {
    if (!lock_byte(locks, index, false))
      continue;
    const NumberBlock block{.major = book.major, .index = index};
    if (!is_seen(places, block))
      return block;
    unlock_byte(locks, index);
  }
  return {};
}

/// @return Whether the book has changed.
bool settle_major(NumberBook &book, const NumberPlaces &places) {
  if (book.major != 0 && !majors_of_others(places).contains(book.major))
    return false;
  const unsigned int before = std::exchange(book.major, choose_major(places));
  if (before != 0)
    spdlog::warn("a driver has come to have the nodes' major number {0}: it is {1} from now on. "
                 "Rules that name {0} must name {1}",
                 before, book.major);
  return true;
}

/// @return Whether the book has changed.
bool note_block(NumberBook &book, const std::string &prefix, unsigned int index) {
  const auto own = book.blocks.find(prefix);
  if (own != book.blocks.end() && own->second == index)
    return false;
  if (own != book.blocks.end())
    spdlog::warn("somebody else has the device numbers of /dev/{0}: they change. Rules and "
                 "containers that name the old ones must name the new ones (ls -l /dev/{0})",
                 prefix);
  std::erase_if(book.blocks, [index](const auto &entry) { return entry.second == index; });
  book.blocks[prefix] = index;
  return true;
}

} // namespace

NumberPlaces::NumberPlaces() : state(default_state_directory), locks(observe::ledger_directory) {}

NumberBook NumberBook::parse(std::string_view text) {
  NumberBook book;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what;
    unsigned int number = 0;
    std::string prefix;
    if (!(words >> what >> number))
      continue;
    if (what == "major")
      book.major = number;
    else if (what == "block" && number >= first_block && number < NumberBlock::count &&
             words >> prefix)
      book.blocks[prefix] = number;
  }
  return book;
}

std::string NumberBook::text() const {
  std::string text = fmt::format(
      "# The device numbers of vfio-shim's nodes. Minors: {} for each block; the first is the\n"
      "# container's, and group N has the one that is N + 1 further on.\n"
      "major {}\n",
      NumberBlock::size, major);
  for (const auto &[prefix, block] : blocks)
    text += fmt::format("block {} {}\n", block, prefix);
  return text;
}

NumberBook NumberBook::read(const NumberPlaces &places) {
  std::ifstream file(places.state / book_name);
  std::ostringstream text;
  text << file.rdbuf();
  return parse(text.str());
}

Result<void> NumberBook::write(const NumberPlaces &places) const {
  constexpr mode_t everybody_looks = 0755;
  if (::mkdir(places.state.c_str(), everybody_looks) != 0 && errno != EEXIST)
    return fail_errno(places.state);
  const fs::path book = places.state / book_name;
  const fs::path draft = book.string() + ".new";
  {
    std::ofstream file(draft, std::ios::trunc);
    file << text() << std::flush;
    if (!file)
      return fail_errno(draft);
  }
  if (::rename(draft.c_str(), book.c_str()) != 0)
    return fail_errno(book);
  return {};
}

std::set<unsigned int> majors_of_others(const NumberPlaces &places) {
  std::set<std::string> nodes;
  std::error_code error;
  for (fs::directory_iterator entry(places.sys / "class/cuse", error), end; !error && entry != end;
       entry.increment(error)) {
    std::string name = entry->path().filename();
    std::ranges::replace(name, '!', '/'); // sysfs names are no paths.
    constexpr std::size_t longest = 63;   // In the list of the kernel's.
    nodes.insert(name.substr(0, longest));
  }
  std::set<unsigned int> majors;
  std::ifstream devices(places.proc / "devices");
  std::string line;
  std::getline(devices, line); // "Character devices:"
  while (std::getline(devices, line) && !line.empty()) {
    std::istringstream words(line);
    unsigned int major = 0;
    std::string name;
    if (words >> major && std::getline(words >> std::ws, name) && !nodes.contains(name))
      majors.insert(major);
  }
  return majors;
}

unsigned int choose_major(const NumberPlaces &places) {
  struct Range {
    unsigned int first;
    unsigned int last;
  };
  // Source: Documentation/admin-guide/devices.txt. What the kernel gives to drivers by itself comes
  // last, and from the end that it gives away last.
  constexpr std::array<Range, 3> ranges{{{120, 127}, {60, 63}, {384, 511}}};
  const auto taken = majors_of_others(places);
  for (const Range &range : ranges)
    for (unsigned int major = range.first; major <= range.last; ++major)
      if (!taken.contains(major))
        return major;
  return 0;
}

ReservedNumbers ReservedNumbers::inherit(Fd locks, const std::string &prefix,
                                         const NumberPlaces &places) {
  const NumberBook book = NumberBook::read(places);
  const auto own = book.blocks.find(prefix);
  return {std::move(locks), own == book.blocks.end()
                                ? NumberBlock{}
                                : NumberBlock{.major = book.major, .index = own->second}};
}

Result<ReservedNumbers> ReservedNumbers::reserve(const std::string &prefix, bool remember,
                                                 const NumberPlaces &places) {
  VFIO_SHIM_TRY(observe::make_ledger_directory(places.locks));
  const fs::path path = places.locks / lock_name;
  Fd locks{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!locks || !lock_byte(locks, book_lock, true))
    return fail_errno(path);
  auto book = NumberBook::read(places);
  bool changed = settle_major(book, places);
  const NumberBlock block =
      book.major == 0 ? NumberBlock{} : take_block(locks, places, book, prefix, remember);
  if (block.major == 0)
    spdlog::warn(
        "no device numbers are left for /dev/{}: the kernel chooses some, others each time",
        prefix);
  else if (remember)
    changed = note_block(book, prefix, block.index) || changed;
  if (const auto written = changed && remember ? book.write(places) : Result<void>{}; !written)
    spdlog::warn("the device numbers of /dev/{} are not remembered: {}", prefix,
                 written.error().describe());
  unlock_byte(locks, book_lock);
  return ReservedNumbers(std::move(locks), block);
}

} // namespace vfio_shim::daemon
