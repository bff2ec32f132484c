// SPDX-License-Identifier: MIT
#include "text.hpp"

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>

#include <fcntl.h>
#include <unistd.h>

namespace chaos {

std::string text(const char *format, ...) {
  std::array<char, 1024> line;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line.data(), line.size(), format, arguments);
  va_end(arguments);
  return line.data();
}

std::string read_file(const std::string &path) {
  std::string contents;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return contents;
  std::array<char, 4096> piece;
  for (ssize_t size; (size = ::read(file, piece.data(), piece.size())) > 0;)
    contents.append(piece.data(), static_cast<std::size_t>(size));
  ::close(file);
  if (!contents.empty() && contents.back() == '\n')
    contents.pop_back();
  return contents;
}

int write_file(const std::string &path, const std::string &contents) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0)
    return errno;
  const bool written =
      ::write(file, contents.data(), contents.size()) == static_cast<ssize_t>(contents.size());
  const int error = written ? 0 : errno;
  ::close(file);
  return error;
}

} // namespace chaos
