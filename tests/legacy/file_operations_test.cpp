// SPDX-License-Identifier: MIT
// What the nodes' files answer to everything but ioctls: they can be opened, closed and asked by
// ioctl, and nothing else.

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <string>

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "suite.h"

namespace {

using namespace legacy;

/// Each body runs on the container's node and on a group's.
class FileOperationsSuite : public LegacySuite {
protected:
  std::array<std::string, 2> nodes() const {
    return {provider().container, provider().group_path(topology::lone_edus(1)[0].group)};
  }
  void on_each_node(int flags, const std::function<void(int)> &body) const {
    for (const std::string &node : nodes()) {
      SCOPED_TRACE(node);
      const Fd file = Fd::open(node, flags);
      body(file.number());
    }
  }
  void on_each_node(const std::function<void(int)> &body) const { on_each_node(O_RDWR, body); }
};

LEGACY_SUITE(FileOperations, FileOperationsSuite);

/// The flags of an open file, without the one that the kernel adds for 64-bit programs.
int flags_of(int file) {
  constexpr int large_file = 0100000;
  return ::fcntl(file, F_GETFL) & ~large_file;
}

/// A file of a page's size that can do everything.
Fd ordinary_file() {
  return make_memfd(page);
}

TEST_P(FileOperations, AreAllOpenedWithTheUsualFlags) {
  for (const std::string &node : nodes()) {
    SCOPED_TRACE(node);
    for (const int access : {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_RDWR})
      for (const int flags : {0, O_NONBLOCK, O_APPEND, O_TRUNC, O_CREAT, O_NOCTTY, O_SYNC, O_ASYNC,
                              O_NOFOLLOW, O_NOATIME, O_EXCL})
        EXPECT_EQ(Fd::try_open(node, access | flags), succeeds)
            << std::oct << "flags 0" << (access | flags);
  }
}

TEST_P(FileOperations, AreNotOpenedWithOthers) {
  for (const std::string &node : nodes()) {
    SCOPED_TRACE(node);
    EXPECT_EQ(Fd::try_open(node, O_RDWR | O_CREAT | O_EXCL), fails(EEXIST));
    EXPECT_EQ(Fd::try_open(node, O_RDWR | O_DIRECT), fails(EINVAL));
    EXPECT_EQ(Fd::try_open(node, O_RDWR | O_DIRECTORY), fails(ENOTDIR));
    EXPECT_EQ(Fd::try_open(node, O_RDWR | O_TMPFILE), fails(ENOTDIR));
    EXPECT_EQ(Fd::try_open(node, O_RDWR), succeeds) << "nothing of that is left open";
  }
}

TEST_P(FileOperations, KeepTheFlagsTheyWereOpenedWith) {
  for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_NONBLOCK, O_RDWR | O_APPEND})
    on_each_node(flags | O_TRUNC | O_CREAT,
                 [flags](int file) { EXPECT_EQ(Answer::of(flags_of(file)), answers(flags)); });
}

TEST_P(FileOperations, OpenedAsAPathAreThatOnly) {
  for (const std::string &node : nodes()) {
    SCOPED_TRACE(node);
    const Fd path = Fd::open(node, O_PATH);
    const Fd file = Fd::open(node, O_RDWR);
    EXPECT_EQ(path.ioctl(VFIO_GET_API_VERSION), fails(EBADF));
    struct stat status {};
    EXPECT_EQ(::fstat(path.number(), &status), 0);
    EXPECT_TRUE(S_ISCHR(status.st_mode));
  }
}

TEST_P(FileOperations, AnswerIoctlsHoweverTheyWereOpened) {
  for (const int flags : {O_RDONLY, O_WRONLY, O_WRONLY | O_RDWR, O_RDWR | O_NONBLOCK}) {
    const Fd container = Fd::open(provider().container, flags);
    EXPECT_EQ(container.ioctl(VFIO_GET_API_VERSION), answers(VFIO_API_VERSION)) << flags;
    const Fd group = Fd::open(nodes()[1], flags);
    vfio_group_status status{.argsz = sizeof(status), .flags = 0};
    EXPECT_EQ(group.ioctl(VFIO_GROUP_GET_STATUS, &status), succeeds) << flags;
    EXPECT_EQ(status.flags, VFIO_GROUP_FLAGS_VIABLE + 0u) << flags;
  }
}

TEST_P(FileOperations, AreCharacterDevicesWithoutASize) {
  on_each_node([](int file) {
    struct stat status {};
    ASSERT_EQ(::fstat(file, &status), 0);
    EXPECT_TRUE(S_ISCHR(status.st_mode));
    EXPECT_EQ(status.st_size, 0);
    EXPECT_EQ(status.st_nlink, 1u);
  });
}

TEST_P(FileOperations, ReadNothing) {
  std::array<char, 64> bytes{};
  const iovec vector{bytes.data(), bytes.size()};
  const auto expect_no_reads = [&](int file) {
    EXPECT_EQ(Answer::of(::read(file, bytes.data(), bytes.size())), fails(EINVAL));
    EXPECT_EQ(Answer::of(::pread(file, bytes.data(), bytes.size(), 8)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::readv(file, &vector, 1)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::preadv(file, &vector, 1, 0)), fails(EINVAL));
  };
  on_each_node(expect_no_reads);
  on_each_node(O_RDWR | O_NONBLOCK, expect_no_reads);
  on_each_node(O_WRONLY, [&](int file) {
    EXPECT_EQ(Answer::of(::read(file, bytes.data(), bytes.size())), fails(EBADF));
  });
}

TEST_P(FileOperations, WriteNothing) {
  std::array<char, 64> bytes{};
  const std::vector<char> many((1_MiB).count);
  const iovec vector{bytes.data(), bytes.size()};
  const auto expect_no_writes = [&](int file) {
    EXPECT_EQ(Answer::of(::write(file, bytes.data(), bytes.size())), fails(EINVAL));
    EXPECT_EQ(Answer::of(::write(file, many.data(), many.size())), fails(EINVAL));
    EXPECT_EQ(Answer::of(::pwrite(file, bytes.data(), bytes.size(), 8)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::writev(file, &vector, 1)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::pwritev(file, &vector, 1, 0)), fails(EINVAL));
  };
  on_each_node(expect_no_writes);
  on_each_node(O_RDWR | O_APPEND, expect_no_writes);
  on_each_node(O_RDONLY, [&](int file) {
    EXPECT_EQ(Answer::of(::write(file, bytes.data(), bytes.size())), fails(EBADF));
  });
}

TEST_P(FileOperations, ReadAndWriteNothingWhateverTheBuffer) {
  auto *const nowhere = reinterpret_cast<void *>(page.count);
  const Answer empty = differs(Behaviour::ReadsAndWritesOfAnyKind) ? succeeds : fails(EINVAL);
  const Answer astray = differs(Behaviour::ReadsAndWritesOfAnyKind) ? fails(EFAULT) : fails(EINVAL);
  const Answer at_once =
      differs(Behaviour::ReadsAndWritesOfAnyKind) ? fails(EOPNOTSUPP) : fails(EINVAL);
  on_each_node([&](int file) {
    std::array<char, 64> bytes{};
    const iovec vector{bytes.data(), bytes.size()};
    EXPECT_EQ(Answer::of(::read(file, bytes.data(), 0)), empty);
    EXPECT_EQ(Answer::of(::write(file, bytes.data(), 0)), empty);
    EXPECT_EQ(Answer::of(::read(file, nowhere, 64)), astray);
    EXPECT_EQ(Answer::of(::write(file, nowhere, 64)), astray);
    EXPECT_EQ(Answer::of(::preadv2(file, &vector, 1, 0, RWF_NOWAIT)), at_once);
    EXPECT_EQ(Answer::of(::pwritev2(file, &vector, 1, 0, RWF_NOWAIT)), at_once);
  });
}

TEST_P(FileOperations, Seek) {
  const Answer sought = expected(Behaviour::SeekingInANode, fails(ESPIPE));
  on_each_node([&](int file) {
    for (const int whence : {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE})
      EXPECT_EQ(Answer::of(::lseek(file, 64, whence)), sought) << whence;
  });
}

TEST_P(FileOperations, AreAlwaysReadyToPoll) {
  on_each_node([](int file) {
    pollfd poll{file, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0};
    ASSERT_EQ(::poll(&poll, 1, 0), 1);
    EXPECT_EQ(poll.revents, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
    pollfd nothing{file, 0, 0};
    EXPECT_EQ(::poll(&nothing, 1, 0), 0);
  });
}

TEST_P(FileOperations, AreAlwaysReadyToSelect) {
  on_each_node([](int file) {
    fd_set readable, writable, exceptional;
    for (fd_set *const set : {&readable, &writable, &exceptional}) {
      FD_ZERO(set);
      FD_SET(file, set);
    }
    timeval at_once{};
    EXPECT_EQ(::select(file + 1, &readable, &writable, &exceptional, &at_once), 2);
    EXPECT_TRUE(FD_ISSET(file, &readable));
    EXPECT_TRUE(FD_ISSET(file, &writable));
    EXPECT_FALSE(FD_ISSET(file, &exceptional));
  });
}

TEST_P(FileOperations, AreNothingToWatchWithEpoll) {
  const Answer added = expected(Behaviour::NodesInEpoll, fails(EPERM));
  on_each_node([&](int file) {
    const Fd epoll{::epoll_create1(EPOLL_CLOEXEC)};
    epoll_event event{EPOLLIN, {}};
    EXPECT_EQ(Answer::of(::epoll_ctl(epoll.number(), EPOLL_CTL_ADD, file, &event)), added);
    // A program that has come so far at least does not wait for what never comes.
    EXPECT_EQ(Answer::of(::epoll_wait(epoll.number(), &event, 1, 0)), answers(added.ok() ? 1 : 0));
  });
}

TEST_P(FileOperations, CannotBeMapped) {
  const auto map = [](const Fd &file, int flags) {
    void *const mapped =
        ::mmap(nullptr, page.count, PROT_READ | PROT_WRITE, flags, file.number(), 0);
    return Answer::of(reinterpret_cast<long>(mapped));
  };
  const Fd container = Fd::open(nodes()[0], O_RDWR), group = Fd::open(nodes()[1], O_RDWR);
  EXPECT_EQ(map(container, MAP_SHARED), expected(Behaviour::MmapOfTheContainer, fails(ENODEV)));
  EXPECT_EQ(map(container, MAP_PRIVATE),
            differs(Behaviour::MmapOfTheContainer) ? fails(EINVAL) : fails(ENODEV));
  EXPECT_EQ(map(group, MAP_SHARED), fails(ENODEV));
  EXPECT_EQ(map(group, MAP_PRIVATE), fails(ENODEV));
}

TEST_P(FileOperations, KeepWhatFcntlSets) {
  on_each_node([](int file) {
    for (const int flags : {O_NONBLOCK, O_APPEND, O_NONBLOCK | O_APPEND, O_NOATIME, 0}) {
      EXPECT_EQ(Answer::of(::fcntl(file, F_SETFL, flags)), succeeds);
      EXPECT_EQ(Answer::of(flags_of(file)), answers(O_RDWR | flags));
    }
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETFL, O_DIRECT)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETFL, O_ASYNC)), succeeds);
    EXPECT_EQ(Answer::of(flags_of(file)), answers(O_RDWR)) << "nothing of theirs sends signals";
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETOWN, ::getpid())), succeeds);
    EXPECT_EQ(Answer::of(::fcntl(file, F_GETOWN)), answers(::getpid()));
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETSIG, SIGUSR1)), succeeds);
    EXPECT_EQ(Answer::of(::fcntl(file, F_GETSIG)), answers(SIGUSR1));
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETFD, 0)), succeeds);
    EXPECT_EQ(Answer::of(::fcntl(file, F_GETFD)), succeeds);
    const Fd copy{::fcntl(file, F_DUPFD_CLOEXEC, 0)};
    EXPECT_TRUE(copy.is_open());
  });
}

TEST_P(FileOperations, RefuseWhatIsForOtherFiles) {
  on_each_node([](int file) {
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETLEASE, F_RDLCK)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::fcntl(file, F_SETPIPE_SZ, 4096)), fails(EBADF));
    EXPECT_EQ(Answer::of(::fcntl(file, F_ADD_SEALS, F_SEAL_WRITE)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::ftruncate(file, 0)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::fallocate(file, 0, 0, 4096)), fails(ENODEV));
    EXPECT_EQ(Answer::of(::fsync(file)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::fdatasync(file)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::sync_file_range(file, 0, 0, 0)), fails(ESPIPE));
    EXPECT_EQ(Answer::of(::readahead(file, 0, 4096)), fails(EINVAL));
  });
}

TEST_P(FileOperations, AreLockedLikeAnyFile) {
  on_each_node([](int file) {
    EXPECT_EQ(Answer::of(::flock(file, LOCK_EX | LOCK_NB)), succeeds);
    EXPECT_EQ(Answer::of(::flock(file, LOCK_UN)), succeeds);
    for (const int command : {F_SETLK, F_OFD_SETLK}) {
      struct flock lock {};
      lock.l_type = F_WRLCK;
      lock.l_whence = SEEK_SET;
      lock.l_len = 16;
      EXPECT_EQ(Answer::of(::fcntl(file, command, &lock)), succeeds);
      lock.l_type = F_UNLCK;
      EXPECT_EQ(Answer::of(::fcntl(file, command, &lock)), succeeds);
    }
  });
}

TEST_P(FileOperations, LockOutOtherOpenFilesOfTheContainer) {
  const Fd one = Fd::open(provider().container, O_RDWR);
  const Fd other = Fd::open(provider().container, O_RDWR);
  ASSERT_EQ(Answer::of(::flock(one.number(), LOCK_EX | LOCK_NB)), succeeds);
  EXPECT_EQ(Answer::of(::flock(other.number(), LOCK_EX | LOCK_NB)), fails(EWOULDBLOCK));
}

TEST_P(FileOperations, MoveNoBytesToOrFromOthers) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd reader{ends[0]}, writer{ends[1]};
  ASSERT_EQ(::write(writer.number(), "x", 1), 1);
  const Fd ordinary = ordinary_file();
  on_each_node([&](int file) {
    const int other = ordinary.number();
    EXPECT_EQ(Answer::of(::splice(file, nullptr, writer.number(), nullptr, 64, 0)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::splice(reader.number(), nullptr, file, nullptr, 64, 0)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::sendfile(file, other, nullptr, 64)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::sendfile(other, file, nullptr, 64)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::copy_file_range(file, nullptr, other, nullptr, 64, 0)), fails(EINVAL));
    EXPECT_EQ(Answer::of(::copy_file_range(other, nullptr, file, nullptr, 64, 0)), fails(EINVAL));
  });
}

TEST_P(FileOperations, AnswerTheIoctlsOfAllFiles) {
  on_each_node([](int file) {
    EXPECT_EQ(Answer::of(::ioctl(file, FIONCLEX)), succeeds);
    EXPECT_EQ(Answer::of(::fcntl(file, F_GETFD)), answers(0));
    EXPECT_EQ(Answer::of(::ioctl(file, FIOCLEX)), succeeds);
    EXPECT_EQ(Answer::of(::fcntl(file, F_GETFD)), answers(FD_CLOEXEC));
    int on = 1;
    EXPECT_EQ(Answer::of(::ioctl(file, FIONBIO, &on)), succeeds);
    EXPECT_NE(::fcntl(file, F_GETFL) & O_NONBLOCK, 0);
    EXPECT_EQ(Answer::of(::ioctl(file, FIOASYNC, &on)), fails(ENOTTY));
    int block_size = 0;
    EXPECT_EQ(Answer::of(::ioctl(file, FIGETBSZ, &block_size)), succeeds);
  });
}

TEST_P(FileOperations, LeaveOtherIoctlsToTheNode) {
  const Fd container = Fd::open(nodes()[0], O_RDWR), group = Fd::open(nodes()[1], O_RDWR);
  const Answer unknown = expected(Behaviour::UnknownIoctlWithoutAType, fails(EINVAL));
  int number = 0;
  for (const unsigned long command :
       std::array<unsigned long, 4>{FIONREAD, FIOQSIZE, TCGETS, FS_IOC_GETFLAGS}) {
    const bool is_vfs = command == FIOQSIZE;
    EXPECT_EQ(container.ioctl(command, &number), is_vfs ? fails(ENOTTY) : unknown) << command;
    EXPECT_EQ(group.ioctl(command, &number), fails(ENOTTY)) << command;
  }
}

} // namespace
