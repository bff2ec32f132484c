// SPDX-License-Identifier: MIT
/// @file
/// A container: what an open file of /dev/vfio/vfio is.
#pragma once

#include "vfio_shim/backend.hpp"
#include "vfio_shim/client.hpp"
#include "vfio_shim/ledger.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/side_thread.hpp"
#include "vfio_shim/state.hpp"
#include "vfio_shim/units.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vfio_shim {

namespace rules {
struct AddressSpaceState;
struct MappingRun;
struct Operation;
} // namespace rules

/// type1's dma_entry_limit, unless it is told otherwise.
inline constexpr std::uint32_t default_mapping_limit = 65535;

/// What a container needs from the program that creates it.
struct ContainerOptions {
  BackendFactory make_backend;
  Ledger *ledger = nullptr; ///< Outlives the container. nullptr: nothing is recorded.
  /// Mappings per container.
  std::uint32_t mapping_limit = default_mapping_limit;
  /// All that may be mapped, and all of it: a group that cannot use it as a whole is not attached.
  std::optional<IovaRange> iova_window{};
  /// Asked before the container takes what it will keep: a group, a device. Its error is the
  /// call's answer. None: it may always.
  std::function<Result<void>()> may_grow{};
  /// Takes the backends of another process over; for Container::adopt().
  BackendAdopter adopt_backend{};
  /// Asked when a client sets the IOMMU: whether it is to map by itself from then on, on the
  /// backend's own file. None: nobody is.
  std::function<bool(const Client &)> express{};
  /// For Container::open_on().
  BackendMaker make_backend_on{};
};

/// How far a group has come on its way out. It waits for nobody.
enum class Departure : std::uint8_t {
  left,
  device_open, ///< The client still has a device of the group open.
  busy,        ///< A call is being served. The group leaves at its end, or when asked again.
};

/// A group's place in a container, from joining to leaving. Two groups of the same number, one
/// plugged in after the other was unplugged, have a place each.
class Membership {
public:
  Membership(GroupId group, Ledger::Record record) : group_(group), record_(record) {}
  Membership(const Membership &) = delete;
  Membership &operator=(const Membership &) = delete;

  /// Whether the group has left. What the container wrote down of it is in the ledger by then.
  bool ended() const { return ended_; }

private:
  friend class Container;

  /// How long the group is to stay.
  enum class Stay : std::uint8_t { for_good, while_a_device_is_open, no_longer };

  const GroupId group_;
  const Ledger::Record record_;
  std::atomic<Stay> stay_ = Stay::for_good;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;                       ///< Guards present_; nobody waits while holding it.
  std::optional<topology::Group> present_; ///< For Backend::follow(), if there is news.
};

/// One address space and the groups that share it, by type1's rules.
///
/// Lives as long as its file or one of its groups. The first group gives it a backend,
/// VFIO_SET_IOMMU an address space; when the last group leaves, everything mapped goes and it is as
/// new. Thread-safe.
///
/// A call may wait for its client for ever. Other calls on the container wait for it, and so do
/// join(), leave() and what concerns devices. follow() and the methods that begin with `try` wait
/// for nobody: what they cannot do at once is put off, and done by the call in the way at its end.
class Container {
public:
  /// Opens a container. @return ENOMEM: the ledger has no room for it.
  /// @param file What the ledger is to call it; see Ledger::next_file().
  static Result<std::shared_ptr<Container>> open(ContainerOptions options, FileNumber file,
                                                 Pid client);

  /// Opens a container whose file is @p iommufd already, as after ContainerOptions::express: what
  /// the first group joins it has an address space. @return As open().
  static Result<std::shared_ptr<Container>> open_on(Fd iommufd, ContainerOptions options,
                                                    FileNumber file, Pid client);

  /// Takes over a container of a process that has died, with the groups that are in it.
  /// @return As ContainerOptions::adopt_backend.
  static Result<std::shared_ptr<Container>> adopt(ContainerOptions options,
                                                  const ContainerState &state,
                                                  const std::vector<GroupState> &groups);

  Container(ContainerOptions options, FileNumber file, Pid client);
  Container(const Container &) = delete;
  Container &operator=(const Container &) = delete;
  ~Container();

  /// Serves an ioctl on the container.
  /// @param argument The ioctl's third argument, as the client gave it.
  /// @return The ioctl's result. EINVAL: unknown before VFIO_SET_IOMMU. ENOTTY: unknown after it.
  ///         Otherwise what type1 answers: drivers/vfio/container.c, vfio_iommu_type1.c.
  Result<long> call(Client &client, unsigned int command, std::uint64_t argument);

  /// "VFIO_..." for an ioctl that call() knows, "" for any other.
  static std::string_view call_name(unsigned int command);

  /// Takes the group in: claims its DMA and, once an IOMMU is set, attaches it.
  /// @return EPERM: the group is not viable. What ContainerOptions::may_grow says. EINVAL: reserved
  ///         regions collide with mappings or with ContainerOptions::iova_window. EBUSY: a
  ///         mapping's vaddr is invalid (VFIO_DMA_UNMAP_FLAG_VADDR).
  Result<std::shared_ptr<Membership>> join(const topology::Group &group,
                                           Ledger::Record group_record);

  /// The place of a group that was taken over, or nullptr.
  std::shared_ptr<Membership> membership(GroupId group);

  /// Finishes or undoes what a call of a process that has died was about to do. To be called before
  /// any call().
  /// @return What has become of it.
  Outcome settle(const Intention &intention);

  /// Its file is closed.
  void note_closed();

  /// Tells if @p file is what a client of this container has in its place
  /// (ContainerOptions::express). Waits for nobody.
  bool is_express_as(const Fd &file) const;

  /// Its record in the ledger.
  Ledger::Record record() const { return record_; }

  /// Lets the group go unless a device of it is open. May wait for a call.
  /// @return Whether it has gone.
  bool leave_if_unused(Membership &member);

  /// Lets the group go. The last one takes the address space with it.
  void leave(Membership &member);
  /// The same. @return `left` or `busy`.
  Departure try_leave(Membership &member);
  /// Lets the group go as soon as no device of it is open. To be called again until it has left,
  /// because nobody tells when a device is closed; each call on the container looks, too.
  Departure try_leave_when_unused(Membership &member);

  /// See Backend::follow(). @return False: to be called again.
  bool follow(Membership &member, const topology::Group &present);

  /// Opens a device of a group that has joined. See Backend::open_device(). EINVAL: no IOMMU set.
  Result<Fd> open_device(GroupId group, const topology::Device &device);
  /// See Backend::given_away().
  void given_away(GroupId group, std::string_view name);
  /// See Backend::open_devices().
  std::vector<std::string> open_devices(GroupId group);
  /// The same, or nothing if a call is being served.
  std::optional<std::vector<std::string>> try_open_devices(GroupId group);

private:
  friend struct ContainerCalls; // The handlers behind call(), in compat/type1/.

  class Turn;

  Container(ContainerOptions options, const ContainerState &state);

  Result<void> may_be_asked(const rules::Operation *operation);
  Departure try_to_let_go(Membership &member, Membership::Stay stay);
  void catch_up();
  void follow_news(Membership &member);
  bool is_to_leave(const Membership &member);
  bool has_map_under_way();
  bool catch_up_aside();
  Result<void> make_backend_on(const Fd &iommufd);
  void go_express(Client &client, std::uint64_t iommu_type);
  void set_express(std::shared_ptr<const Fd> file);
  std::shared_ptr<const Fd> express_file() const;
  void let_go(Membership &member);
  Result<void> may_grow() const;
  Result<void> make_backend_if_none();
  Result<void> may_attach() const;
  Result<void> attach_claimed();
  Result<void> refresh_address_space();
  Result<void> read_address_space();
  void end_address_space();
  void forget(const rules::MappingRun &run);
  void mark_all_dirty();
  void note_backend();

  ContainerOptions options_;
  Ledger silent_ledger_;
  Ledger &ledger_;
  Ledger::Record record_;
  std::atomic<bool> put_off_ = false; ///< A member is to leave or to follow, and nobody has looked.
  std::mutex mutex_;                  ///< Guards everything below. Held by a Turn.
  bool inherited_ = false;            ///< From a process that has died.
  bool awaiting_devices_ = false;     ///< A member is to leave once its devices are closed.
  std::map<GroupId, std::shared_ptr<Membership>> groups_;
  std::unique_ptr<Backend> backend_; ///< While groups_ is not empty.
  std::uint64_t noted_changes_ = 0;  ///< The state of backend_ that is in the ledger.
  std::unique_ptr<rules::AddressSpaceState> iommu_; ///< From VFIO_SET_IOMMU on.
  mutable std::mutex express_mutex_;                ///< Guards what follows; nobody waits with it.
  /// The file that the client has in this one's place, from then on for ever.
  std::shared_ptr<const Fd> express_;
  SideThread aside_; ///< Last: it uses all of the above.
};

} // namespace vfio_shim
