// SPDX-License-Identifier: MIT
/// @file
/// The client of one call: the thread that waits in an ioctl of ours, and its process.
#pragma once

#include "backend/device_memory.hpp"
#include "client/borrowed_thread.hpp"
#include "client/caller_hold.hpp"
#include "client/errand_thread.hpp"
#include "client/known_to_kvm.hpp"
#include "client/resident_descriptors.hpp"

#include "vfio_shim/client.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace vfio_shim::client {

/// Tells which container an open file stands for.
/// @param who Calls: a file that stands for none yet may become a container of that process.
using ContainerFinder = std::function<Result<std::shared_ptr<Container>>(const Fd &, Pid who)>;

/// A container of ours that is to take a file's place in a client.
struct Substitute {
  Fd file; ///< Open, of the container.
  std::shared_ptr<Container> container;
};

/// Makes a container for a file that is to be replaced. @return Nothing: it is not to be.
using SubstituteMaker = std::function<Result<std::optional<Substitute>>(const Fd &, Pid who)>;

/// What a call may need to know that does not lie with its client.
struct Surroundings {
  ClientAreas &areas;             ///< What there is in clients for their borrowed threads.
  ContainerFinder find_container; ///< May block for another call to be served.
  std::shared_ptr<DeviceMemory> device_memory;
  SubstituteMaker make_substitute{}; ///< None: nothing is replaced.
  /// Tells whether the thread still is the caller. None: nobody else answers the call.
  std::shared_ptr<CallerHold> hold{};
  FileNumber file{};                  ///< The open file that the call is on.
  bool is_32_bit = false;             ///< Its thread cannot be borrowed.
  KnownToKvm *known_to_kvm = nullptr; ///< None: KVM is told nothing. Outlives the call.
};

/// Where the descriptors of devices begin in a client under `vfio-shim run`: its supervisor looks
/// at calls on these only, so that calls on other files cost nothing.
inline constexpr ClientFd least_supervised{512};

/// Serves one call on behalf of the thread that made it.
///
/// Plain work on the client's memory needs nothing of the thread. What only the client itself can
/// do (pin its memory, receive a descriptor) borrows it: the ioctl is then answered early, and its
/// result goes to the thread's registers instead (finish()). Use from one thread only.
class CallingThread final : public Client {
public:
  /// @param thread Waits in an ioctl that is not answered yet.
  /// @param answer_early Answers that ioctl before its result is known; that answer stands only if
  ///        we die within microseconds. Returns whether it could.
  /// @param residents The descriptors that stay in clients of this open file.
  CallingThread(Tid thread, std::function<bool()> answer_early, ResidentDescriptors &residents,
                Surroundings surroundings);

  /// Gives a borrowed thread its ioctl's result: a value, or a negative errno.
  /// @return Whether the ioctl has been answered that way. If not, answer it as usual.
  bool finish(long result);

  /// Where the call is noted. None: nowhere. @param notes Outlive this.
  void note_in(CallNotes &notes) { notes_ = &notes; }

  void about_to(const Intention &intention) override { notes_->about_to(intention); }
  std::optional<Outcome> outcome() const override { return notes_->outcome(); }
  std::string describe() const override;
  Pid pid() const override;
  Result<Fd> process() override;
  Result<void> read(ClientAddr from, std::span<std::byte> to) override;
  Result<void> write(ClientAddr to, std::span<const std::byte> from) override;
  Result<void> ioctl_in_client(const Fd &file, Lending lending, unsigned long command,
                               std::span<const std::byte> argument) override;
  Result<AddressSpaceId> address_space() override;
  std::vector<std::uint64_t> physical_pages(ClientAddr start, Bytes size) override;
  Result<std::vector<MemoryPart>> memory_parts(ClientAddr start, Bytes size,
                                               Access access) override;
  Result<Fd> copy_of(ClientFd number) override;
  Result<std::shared_ptr<Container>> container_behind(const Fd &file) override;
  Result<std::shared_ptr<Container>> container_in_place_of(ClientFd number,
                                                           const Fd &file) override;
  Result<ClientFd> hand_over(const Fd &file) override;
  void device_given(GroupId group, const topology::Device &device) override;
  void group_left(GroupId group) override;
  Result<void> put_in_place(const Fd &file, const Container &container) override;

private:
  Result<void> check_caller() const;
  Result<BorrowedThread *> borrowed();
  Result<Fd *> handle();
  const ResidentDescriptor *own_resident();
  MemoryFiles &memory_files();
  Result<Foothold> make_resident(BorrowedThread &thread, const Fd &file);
  Result<void> try_to_put_in_place(const Fd &file, const Container &container);
  Result<void> ioctl_openly(const Fd &file, unsigned long command,
                            std::span<const std::byte> argument);
  Result<void> ioctl_privately(const Fd &file, unsigned long command,
                               std::span<const std::byte> argument);
  /// The borrowed thread, and a pidfd of it for copies of its descriptors.
  struct Reached {
    BorrowedThread *thread;
    const Fd *handle;
  };
  Result<Reached> reach();
  Result<ErrandThread *> errand();
  Result<void> tell_kvm(GroupId group, const topology::Device &device);
  Result<void> take_from_kvm(std::span<const KnownToKvm::Known> unused);
  Result<void> set_kvm_files(std::span<const Fd> machines, std::uint64_t add_or_remove,
                             const Fd &file);
  /// Whether pinned pages count against a limit of the client: then the kernel must do the
  /// accounting, in the client's own name.
  bool bound_by_memlock_limit();

  Tid thread_;
  std::function<bool()> answer_early_;
  ResidentDescriptors &residents_;
  Surroundings surroundings_;
  CallNotes no_notes_;
  CallNotes *notes_ = &no_notes_;
  std::optional<const ResidentDescriptor *> own_resident_; ///< Once it has been looked for.
  MemoryFiles passing_files_; ///< Of the caller's memory, where none can stay open.
  bool answered_early_ = false;
  std::unique_ptr<BorrowedThread> borrowed_;
  std::unique_ptr<ErrandThread> errand_; ///< Made by the borrowed thread, and gone before it.
  Fd handle_;                            ///< A pidfd of the thread.
};

/// The thread group of @p thread; the thread's own id if it is gone.
Pid process_of(Tid thread);

/// "qemu-system-x86[1234]"; "?[1234]" if it is gone.
std::string describe_process(Pid process);

} // namespace vfio_shim::client
