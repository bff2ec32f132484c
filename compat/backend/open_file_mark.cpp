#include "backend/open_file_mark.hpp"

#include <cstdlib>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/random.h>

namespace vfio_shim {

namespace {

struct flock lock_of(short type, std::int64_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

} // namespace

Result<OpenFileMark> OpenFileMark::put(const Fd &file) {
  std::int64_t byte = 0;
  if (::getrandom(&byte, sizeof(byte), 0) != sizeof(byte))
    return fail_errno("getrandom");
  byte &= INT64_MAX >> 1;
  struct flock lock = lock_of(F_WRLCK, byte);
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0)
    return fail_errno("F_OFD_SETLK");
  return OpenFileMark(byte);
}

bool OpenFileMark::still_open() const {
  const Fd any_anonymous_file{::eventfd(0, EFD_CLOEXEC)};
  struct flock lock = lock_of(F_WRLCK, byte_);
  // What cannot be asked is taken for open: nothing is taken away from a client by mistake.
  return ::fcntl(any_anonymous_file.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

} // namespace vfio_shim
