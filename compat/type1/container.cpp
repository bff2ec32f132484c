// SPDX-License-Identifier: MIT
#include "vfio_shim/container.hpp"

#include "rules/address_space_state.hpp"
#include "rules/container_rules.hpp"
#include "type1/container_turn.hpp"

#include <new>
#include <utility>

#include <fmt/format.h>
#include <linux/kcmp.h>
#include <linux/vfio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "iova_window.hpp"

namespace vfio_shim {

namespace {

/// Leaves nothing usable but the window.
Result<void> limit(AddressSpace &space, IovaRange window) {
  if (const auto hole = first_hole(space.usable, window))
    return fail_for_operator(
        EINVAL, fmt::format("the IOVA window {} has a hole: {} is not usable", window, *hole));
  space.usable = {window};
  return {};
}

/// The failure as the client is to see it. No call on a container gives it a descriptor, so if
/// there were too many they were not its own.
template <typename T>
Result<T> seen_by_client(Result<T> result) {
  if (!result && result.error().code == EMFILE)
    result.error().code = ENFILE;
  return result;
}

} // namespace

Result<std::shared_ptr<Container>> Container::open(ContainerOptions options, FileNumber file,
                                                   Pid client) {
  auto opened = std::make_shared<Container>(std::move(options), file, client);
  if (opened->record_ == 0)
    return fail_for_operator(ENOMEM, "the ledger has no room for another container");
  return opened;
}

Result<std::shared_ptr<Container>> Container::open_on(Fd iommufd, ContainerOptions options,
                                                      FileNumber file, Pid client) {
  auto opened = open(std::move(options), file, client);
  if (opened) {
    (*opened)->set_express(std::make_shared<const Fd>(std::move(iommufd)));
    (*opened)->note_closed();
  }
  return opened;
}

Container::Container(ContainerOptions options, FileNumber file, Pid client)
    : options_(std::move(options)),
      ledger_(options_.ledger != nullptr ? *options_.ledger : silent_ledger_),
      record_(ledger_.container_opened(file, client)) {}

Result<std::shared_ptr<Container>> Container::adopt(ContainerOptions options,
                                                    const ContainerState &state,
                                                    const std::vector<GroupState> &groups) {
  std::shared_ptr<Container> adopted(new Container(std::move(options), state));
  if (groups.empty()) { // The last one was just leaving.
    adopted->end_address_space();
    adopted->note_backend();
    return adopted;
  }
  auto backend =
      adopted->options_.adopt_backend(state.backend, {.window = adopted->options_.iova_window,
                                                      .attached = adopted->iommu_ != nullptr,
                                                      .tracking_dirty = state.tracking_dirty,
                                                      .shared = state.express});
  if (!backend)
    return pass_on(backend);
  adopted->backend_ = std::move(*backend);
  adopted->inherited_ = true;
  for (const GroupState &group : groups) {
    auto member = std::make_shared<Membership>(group.id, group.record);
    if (group.closed)
      member->stay_ = Membership::Stay::while_a_device_is_open;
    adopted->groups_.emplace(group.id, std::move(member));
  }
  if (state.express) {
    auto file = adopted->backend_->file_for_client(0);
    if (!file)
      return pass_on(file);
    adopted->set_express(std::make_shared<const Fd>(std::move(*file)));
  }
  // The client may have let its last device go: what is reserved for devices stays so all the same.
  // What cannot be attached now is attached by the next map, as in a worker that lives.
  if (adopted->iommu_ && !state.express) {
    (void)adopted->attach_claimed();
    VFIO_SHIM_TRY(adopted->read_address_space());
  }
  adopted->note_backend();
  return adopted;
}

/// Has the mappings, and no backend yet.
Container::Container(ContainerOptions options, const ContainerState &state)
    : options_(std::move(options)),
      ledger_(options_.ledger != nullptr ? *options_.ledger : silent_ledger_),
      record_(state.record) {
  if (state.iommu_type == 0)
    return;
  iommu_ = std::make_unique<rules::AddressSpaceState>(
      rules::AddressSpaceState{.version = rules::version_of(state.iommu_type),
                               .space = {},
                               .mappings = rules::MappingTable(options_.mapping_limit),
                               .express = state.express,
                               .tracking_dirty = state.tracking_dirty});
  for (const MappingState &mapping : state.mappings) {
    const MappingEntry &entry = mapping.entry;
    auto node = rules::MappingTable::entry_of(
        {.iova = entry.iova, .vaddr = entry.vaddr, .size = entry.size, .access = entry.access},
        mapping.record);
    node.mapped().all_dirty = mapping.all_dirty;
    node.mapped().vaddr_valid = mapping.vaddr_valid;
    iommu_->mappings.insert(std::move(node));
  }
}

std::shared_ptr<Membership> Container::membership(GroupId group) {
  const Turn turn(*this);
  const auto found = groups_.find(group);
  return found == groups_.end() ? nullptr : found->second;
}

void Container::note_closed() {
  ledger_.container_closed(record_);
}

Container::~Container() {
  aside_.finish();
  end_address_space();
  if (record_ != 0)
    ledger_.container_gone(record_);
}

Result<std::shared_ptr<Membership>> Container::join(const topology::Group &group,
                                                    Ledger::Record group_record) {
  const Turn turn(*this);
  // One of that number which is still here was unplugged: the kernel has each number once.
  if (const auto unplugged = groups_.find(group.id); unplugged != groups_.end())
    let_go(*std::shared_ptr(unplugged->second));
  VFIO_SHIM_TRY(may_grow());
  VFIO_SHIM_TRY(seen_by_client(make_backend_if_none()));
  auto joined = backend_->claim(group);
  if (joined && iommu_) {
    joined = may_attach();
    if (joined)
      joined = refresh_address_space();
    if (!joined)
      backend_->release(group.id);
  }
  if (!joined) {
    if (groups_.empty()) {
      end_address_space();
      backend_.reset();
    }
    return pass_on(seen_by_client(std::move(joined)));
  }
  auto member = std::make_shared<Membership>(group.id, group_record);
  groups_.emplace(group.id, member);
  note_backend(); // What is in a container can be taken over.
  ledger_.group_moved(group_record, record_);
  return member;
}

void Container::leave(Membership &member) {
  const Turn turn(*this);
  let_go(member);
}

bool Container::leave_if_unused(Membership &member) {
  const Turn turn(*this);
  if (!member.ended() && !backend_->may_release(member.group_))
    return false;
  let_go(member);
  return true;
}

Departure Container::try_leave(Membership &member) {
  return try_to_let_go(member, Membership::Stay::no_longer);
}

Departure Container::try_leave_when_unused(Membership &member) {
  return try_to_let_go(member, Membership::Stay::while_a_device_is_open);
}

bool Container::follow(Membership &member, const topology::Group &present) {
  {
    const std::scoped_lock lock(member.mutex_);
    member.present_ = present;
  }
  put_off_ = true;
  if (express_file())
    return catch_up_aside();
  const Turn turn(*this, std::try_to_lock);
  return true; // By now, or at the end of the call in the way.
}

Departure Container::try_to_let_go(Membership &member, Membership::Stay stay) {
  if (member.stay_ < stay) // Its group asks for one thing at a time.
    member.stay_ = stay;
  put_off_ = true;
  const bool looked = express_file() ? catch_up_aside() : Turn(*this, std::try_to_lock).has_come();
  if (member.ended())
    return Departure::left;
  // What is to go whatever is open, and has not gone, waits for a map that is under way.
  return looked && stay != Membership::Stay::no_longer ? Departure::device_open : Departure::busy;
}

/// Does what was put off where it can be waited for: a client that maps by itself can keep the
/// kernel from taking its address space away.
/// @return Whether it has been done.
bool Container::catch_up_aside() {
  constexpr std::chrono::milliseconds patience{100};
  return aside_.run([this] { const Turn turn(*this); }, patience);
}

/// Does what was put off.
void Container::catch_up() {
  if (!put_off_.exchange(false) && !awaiting_devices_)
    return;
  awaiting_devices_ = false;
  try {
    for (const auto &[id, member] : std::map(groups_)) {
      follow_news(*member);
      if (is_to_leave(*member) && !has_map_under_way())
        let_go(*member);
      else if (member->stay_ != Membership::Stay::for_good)
        awaiting_devices_ = true;
    }
  } catch (const std::bad_alloc &) {
    awaiting_devices_ = true; // The next turn looks again.
  }
}

/// A map that a process which has died has lent to a client (an errand) may not be over, or one
/// that a client makes by itself: it waits for pages of that client, and whoever took the address
/// space away would wait for it.
bool Container::has_map_under_way() {
  if (groups_.size() > 1 || !iommu_ || !(inherited_ || iommu_->express))
    return false; // Here calls have their turn, or the address space stays.
  const auto unmapped = backend_->unmap({Iova{0}, Iova{UINT64_MAX}});
  return !unmapped && unmapped.error().code == EBUSY;
}

void Container::follow_news(Membership &member) {
  std::optional<topology::Group> present;
  {
    const std::scoped_lock lock(member.mutex_);
    present.swap(member.present_);
  }
  if (present)
    backend_->follow(*present);
}

bool Container::is_to_leave(const Membership &member) {
  switch (member.stay_) {
  case Membership::Stay::for_good:
    return false;
  case Membership::Stay::while_a_device_is_open:
    return backend_->may_release(member.group_);
  case Membership::Stay::no_longer:
    return true;
  }
  return false;
}

void Container::let_go(Membership &member) {
  const auto found = groups_.find(member.group_);
  if (found == groups_.end() || found->second.get() != &member)
    return; // It has gone already.
  const auto kept = std::move(found->second);
  groups_.erase(found);
  ledger_.group_moved(member.record_, 0);
  if (groups_.empty()) {
    end_address_space();
    backend_.reset();
  } else {
    backend_->release(member.group_);
    if (iommu_ && iommu_->tracking_dirty)
      mark_all_dirty(); // What only the group's IOMMU knew is lost.
    // Fewer devices can only widen what is usable; if it cannot be read, the old answer stays
    // right.
    if (iommu_)
      (void)refresh_address_space();
  }
  member.ended_ = true;
}

Result<Fd> Container::open_device(GroupId group, const topology::Device &device) {
  const Turn turn(*this);
  if (!iommu_)
    return fail(EINVAL, "no VFIO_SET_IOMMU yet");
  VFIO_SHIM_TRY(may_grow());
  return seen_by_client(backend_->open_device(group, device));
}

void Container::given_away(GroupId group, std::string_view name) {
  const Turn turn(*this);
  if (backend_)
    backend_->given_away(group, name);
}

std::vector<std::string> Container::open_devices(GroupId group) {
  const Turn turn(*this);
  return backend_ ? backend_->open_devices(group) : std::vector<std::string>{};
}

std::optional<std::vector<std::string>> Container::try_open_devices(GroupId group) {
  const Turn turn(*this, std::try_to_lock);
  if (!turn.has_come())
    return std::nullopt;
  return backend_ ? backend_->open_devices(group) : std::vector<std::string>{};
}

/// From now on the client maps by itself: what it calls its container is the backend's own file. If
/// that cannot be, all stays as it is.
void Container::go_express(Client &client, std::uint64_t iommu_type) {
  auto file = backend_->file_for_client(iommu_type);
  if (!file)
    return;
  set_express(std::make_shared<const Fd>(std::move(*file))); // Before the client has it.
  const auto put = client.put_in_place(*express_file(), *this);
  if (!put && put.error().code != ESRCH)
    set_express(nullptr);
}

void Container::set_express(std::shared_ptr<const Fd> file) {
  const bool on = file != nullptr;
  ledger_.express(record_, on);
  if (backend_)
    backend_->share_with_client(on);
  if (iommu_)
    iommu_->express = on;
  const std::scoped_lock lock(express_mutex_);
  express_ = std::move(file);
}

std::shared_ptr<const Fd> Container::express_file() const {
  const std::scoped_lock lock(express_mutex_);
  return express_;
}

bool Container::is_express_as(const Fd &file) const {
  const auto own = express_file();
  return own && ::syscall(SYS_kcmp, ::getpid(), ::getpid(), KCMP_FILE, own->get(), file.get()) == 0;
}

Result<void> Container::may_grow() const {
  return options_.may_grow ? options_.may_grow() : Result<void>{};
}

Result<void> Container::make_backend_if_none() {
  if (backend_)
    return {};
  if (const auto file = express_file())
    return make_backend_on(*file);
  auto made = options_.make_backend();
  if (!made)
    return pass_on(made);
  if (options_.iova_window)
    VFIO_SHIM_TRY((*made)->keep_usable(*options_.iova_window));
  backend_ = std::move(*made);
  return {};
}

/// The container is @p iommufd still, though all groups had left. The client sets the IOMMU in a
/// call that nobody but the kernel sees.
Result<void> Container::make_backend_on(const Fd &iommufd) {
  Fd copy = iommufd.duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  auto made = options_.make_backend_on(std::move(copy));
  if (!made)
    return pass_on(made);
  if (options_.iova_window)
    VFIO_SHIM_TRY((*made)->keep_usable(*options_.iova_window));
  backend_ = std::move(*made);
  backend_->share_with_client(true);
  iommu_ = std::make_unique<rules::AddressSpaceState>(
      rules::AddressSpaceState{.version = rules::Version::v2,
                               .space = {},
                               .mappings = rules::MappingTable(options_.mapping_limit),
                               .express = true});
  ledger_.iommu_set(record_, VFIO_TYPE1v2_IOMMU);
  return {};
}

Result<void> Container::attach_claimed() {
  return seen_by_client(backend_->attach_claimed());
}

Result<void> Container::refresh_address_space() {
  VFIO_SHIM_TRY(attach_claimed());
  return read_address_space();
}

Result<void> Container::read_address_space() {
  auto space = backend_->address_space();
  if (!space)
    return pass_on(space);
  if (options_.iova_window)
    VFIO_SHIM_TRY(limit(*space, *options_.iova_window));
  iommu_->space = std::move(*space);
  return {};
}

/// type1's rule: a new group's IOMMU could need pages by their addresses in the client.
Result<void> Container::may_attach() const {
  if (iommu_->mappings.any_without_vaddr())
    return fail(EBUSY, "a mapping has no valid vaddr");
  return {};
}

void Container::mark_all_dirty() {
  iommu_->mappings.mark_all_dirty();
  const auto all = iommu_->mappings.all();
  for (auto mapping = all.begin; mapping != all.end; ++mapping)
    ledger_.all_dirty(mapping->second.record, true);
}

/// Writes down what another process would need to go on with the backend, if that has changed.
void Container::note_backend() {
  if (!backend_) {
    if (std::exchange(noted_changes_, 0) != 0)
      ledger_.container_backed(record_, 0, 0);
    return;
  }
  if (noted_changes_ == backend_->changes())
    return;
  noted_changes_ = backend_->changes();
  const BackendState state = backend_->describe();
  for (const BackendState::Group &group : state.groups)
    if (const auto member = groups_.find(group.id); member != groups_.end())
      ledger_.group_backed(member->second->record_, group);
  ledger_.container_backed(record_, state.file, state.ioas);
}

/// The backend's destruction unmaps everything; only the books are closed here.
void Container::end_address_space() {
  if (!iommu_)
    return;
  const auto run = iommu_->mappings.all();
  for (auto mapping = run.begin; mapping != run.end; ++mapping)
    ledger_.unmapped(record_, mapping->second.record);
  iommu_.reset();
  ledger_.iommu_set(record_, 0);
}

} // namespace vfio_shim
