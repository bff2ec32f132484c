// SPDX-License-Identifier: MIT
#include "cuse/group_node.hpp"

#include "cuse/refuse_open.hpp"
#include "cuse/refuse_unknown.hpp"
#include "observe/observed_call.hpp"

#include <chrono>

namespace vfio_shim::cuse {

namespace {

using Clock = std::chrono::steady_clock;

/// How long an open() may remain unanswered, while the last owner is on his way out: a call of his
/// may still be served, by a daemon that gets little time or memory.
constexpr std::chrono::seconds opening_patience{3};
/// How long a device of the last owner may seem open: we may have copied its descriptor ourselves,
/// for a moment.
constexpr std::chrono::milliseconds device_patience{300};

} // namespace

struct GroupNode::Opening {
  Opening(GroupNode &node, fuse_req_t asked, const fuse_file_info &to_be)
      : request(asked),
        file(to_be),
        number(Session::first_number_under_way()),
        thread{fuse_req_ctx(asked)->pid},
        client(client::process_of(thread)),
        known_as(node.observer_.opening(node.ledger_.next_file(), client, node.id_)),
        observed(node.observer_, observe::trace::Kind::open_group, known_as, thread) {
    observed.begins();
  }

  void refuse(int code) {
    fuse_reply_err(request, code);
    observed.answered(-1, code);
  }

  const fuse_req_t request;
  fuse_file_info file;
  const std::uint64_t number; ///< The kernel's, of the message.
  const Tid thread;
  const Pid client;
  const std::shared_ptr<observe::ObservedFile> known_as;
  observe::ObservedCall observed;
  const Clock::time_point since = Clock::now();
};

Result<std::shared_ptr<GroupNode>>
GroupNode::create(WorkerPool &pool, NodeLook look, GroupId id, observe::SharedLedger &ledger,
                  Janitor &janitor, client::LeftInClients &left_in_clients, CallBook &calls,
                  WaysToContainers containers, observe::Observer &observer) {
  std::shared_ptr<GroupNode> node(new GroupNode(pool, look.name, id, ledger, janitor,
                                                left_in_clients, calls, std::move(containers),
                                                observer));
  VFIO_SHIM_TRY(node->appear(std::move(look)));
  return node;
}

GroupNode::GroupNode(WorkerPool &pool, const std::string &name, GroupId id,
                     observe::SharedLedger &ledger, Janitor &janitor,
                     client::LeftInClients &left_in_clients, CallBook &calls,
                     WaysToContainers containers, observe::Observer &observer)
    : Node(pool, name),
      id_(id),
      ledger_(ledger),
      janitor_(janitor),
      left_in_clients_(left_in_clients),
      calls_(calls),
      containers_(std::move(containers)),
      observer_(observer) {}

void GroupNode::adopt(const GroupState &state, const std::shared_ptr<Group> &group) {
  {
    const std::scoped_lock lock(mutex_);
    opened_ = group;
    has_file_ = !state.closed;
    if (has_file_)
      files_.add(state.file,
                 std::make_shared<OpenGroup>(
                     group, observer_.opening(state.file, state.client, id_), left_in_clients_));
  }
  if (state.closed)
    janitor_.repeat([node = shared_from_this(), this] { return settle(); });
}

void GroupNode::retire() {
  {
    const std::scoped_lock lock(mutex_);
    retired_ = true;
    for (const auto &opening : openings_)
      opening->refuse(ENODEV);
    openings_.clear();
  }
  disappear();
}

Departure GroupNode::close_group() {
  std::shared_ptr<Group> opened;
  {
    const std::scoped_lock lock(mutex_);
    opened = opened_;
  }
  const Departure departure = opened ? opened->try_close() : Departure::left;
  if (departure == Departure::left)
    left_in_clients_.known_to_kvm.abandon(id_);
  return departure;
}

bool GroupNode::in_use() {
  const std::scoped_lock lock(mutex_);
  return opened_ != nullptr;
}

void GroupNode::follow_topology() {
  if (!following_.exchange(true))
    janitor_.repeat([node = shared_from_this(), this] { return !try_follow_topology(); });
}

/// @return False: to be tried again.
bool GroupNode::try_follow_topology() {
  following_ = false; // News that comes from now on may come too late for this time.
  std::shared_ptr<Group> opened;
  {
    const std::scoped_lock lock(mutex_);
    opened = opened_;
  }
  return !opened || opened->try_follow_topology() || following_.exchange(true);
}

void GroupNode::open(fuse_req_t request, fuse_file_info &file) {
  auto opening = std::make_unique<Opening>(*this, request, file);
  {
    const std::scoped_lock lock(mutex_);
    if (retired_)
      return opening->refuse(ENODEV);
    if (has_file_ || left_in_clients_.known_to_kvm.withholds(id_))
      return opening->refuse(EBUSY);
    if (!opened_)
      return grant(*opening);
    openings_.push_back(std::move(opening));
  }
  settle();
}

void GroupNode::release(fuse_req_t request, fuse_file_info &file) {
  auto closed = files_.take(OpenGroup::number_of(file));
  if (!closed)
    return refuse_unknown(request, *this, file, observer_);
  observe::ObservedCall observed(observer_, observe::trace::Kind::close, closed->observed,
                                 Tid{fuse_req_ctx(request)->pid});
  observed.begins();
  calls_.forget(closed->observed->number());
  closed.reset();
  {
    const std::scoped_lock lock(mutex_);
    has_file_ = false;
  }
  // The client's close() waits for the answer, so that the group is free when it returns. But if
  // this is the end of a client that was killed in a call, that call waits for the client's end.
  if (settle())
    janitor_.repeat([node = shared_from_this(), this] { return settle(); });
  fuse_reply_err(request, 0);
  observed.answered(0, 0);
}

void GroupNode::ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command,
                      std::uint64_t argument, bool /*compat*/) {
  const auto opened = files_.find(OpenGroup::number_of(file));
  if (!opened)
    return refuse_unknown(request, *this, file, observer_);
  const uid_t user = fuse_req_ctx(request)->uid;
  client::Surroundings surroundings{.areas = left_in_clients_.areas,
                                    .find_container =
                                        [this, user](const Fd &file, Pid who) {
                                          return containers_.find(file,
                                                                  {.user = user, .process = who});
                                        },
                                    .device_memory = nullptr,
                                    .known_to_kvm = &left_in_clients_.known_to_kvm};
  if (containers_.make_substitute)
    surroundings.make_substitute = [this, user](const Fd &file, Pid who) {
      return containers_.make_substitute(file, {.user = user, .process = who});
    };
  OpenGroup::serve(opened, request, command, argument, std::move(surroundings), calls_, observer_);
}

/// Ends a group whose file is closed, if it can be ended, and answers those who want to open it.
/// @return Whether it is to be tried again.
bool GroupNode::settle() {
  const auto ending = abandoned();
  if (!ending)
    return false;
  // This may unmap much and take its time, so not with the lock held.
  const Departure departure = ending->try_leave_when_unused();
  if (departure == Departure::left)
    left_in_clients_.known_to_kvm.abandon(id_);
  const std::scoped_lock lock(mutex_);
  if (opened_ != ending)
    return false; // Somebody else was quicker.
  if (departure == Departure::left)
    opened_.reset();
  answer_openings(departure);
  return departure != Departure::left;
}

std::shared_ptr<Group> GroupNode::abandoned() {
  const std::scoped_lock lock(mutex_);
  return has_file_ ? nullptr : opened_;
}

/// With the lock held. The first one gets the group, if it is free.
void GroupNode::answer_openings(Departure departure) {
  const auto now = Clock::now();
  while (!openings_.empty()) {
    Opening &first = *openings_.front();
    if (!opened_)
      grant(first);
    else if (now - first.since >=
             (departure == Departure::busy ? opening_patience : device_patience))
      first.refuse(EBUSY);
    else
      return; // Those behind it came later.
    openings_.pop_front();
  }
}

/// With the lock held.
void GroupNode::grant(Opening &opening) {
  auto group =
      Group::open(id_, topology::Roots{}, &ledger_, opening.known_as->number(), opening.client);
  if (!group) {
    refuse_open(opening.request, *this, opening.client, group.error(), observer_);
    opening.observed.answered(-1, group.error().code);
    return;
  }
  ledger_.group_of((*group)->record(), opening.number);
  auto opened = std::make_shared<OpenGroup>(std::move(*group), opening.known_as, left_in_clients_);
  if (OpenGroup::give(files_, opened, opening.request, opening.file)) {
    opened_ = opened->served;
    has_file_ = true;
  }
  opening.observed.answered(0, 0);
}

} // namespace vfio_shim::cuse
