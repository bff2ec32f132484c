#include "cuse/group_node.hpp"

#include "cuse/open_file.hpp"
#include "observe/observed_call.hpp"

namespace vfio_shim::cuse {

namespace {

using OpenGroup = OpenFile<Group>;

} // namespace

Result<std::shared_ptr<GroupNode>> GroupNode::create(WorkerPool &pool, const std::string &name,
                                                     const NodePermissions &permissions, GroupId id,
                                                     Ledger *ledger, Janitor &janitor,
                                                     client::AbandonedDescriptors &abandoned,
                                                     client::ContainerFinder find_container,
                                                     observe::Observer &observer) {
  std::shared_ptr<GroupNode> node(new GroupNode(pool, name, id, ledger, janitor, abandoned,
                                                std::move(find_container), observer));
  VFIO_SHIM_TRY(node->appear(permissions));
  return node;
}

GroupNode::GroupNode(WorkerPool &pool, const std::string &name, GroupId id, Ledger *ledger,
                     Janitor &janitor, client::AbandonedDescriptors &abandoned,
                     client::ContainerFinder find_container, observe::Observer &observer)
    : Node(pool, name),
      id_(id),
      ledger_(ledger),
      janitor_(janitor),
      abandoned_(abandoned),
      find_container_(std::move(find_container)),
      observer_(observer) {}

bool GroupNode::in_use() {
  const std::scoped_lock lock(mutex_);
  return opened_ != nullptr;
}

bool GroupNode::follow_topology() {
  const std::scoped_lock lock(mutex_);
  if (!opened_)
    return false;
  if (opened_->busy())
    return true;
  opened_->follow_topology();
  return false;
}

void GroupNode::close_group() {
  const std::scoped_lock lock(mutex_);
  if (opened_)
    opened_->close();
}

void GroupNode::open(fuse_req_t request, fuse_file_info &file) {
  const Tid thread{fuse_req_ctx(request)->pid};
  const Pid client = client::process_of(thread);
  const auto known_as = observer_.opening(client, id_);
  observe::ObservedCall observed(observer_, observe::trace::Kind::open_group, known_as, thread);
  const std::scoped_lock lock(mutex_);
  observed.begins();
  if (end_if_abandoned_locked() || opened_) {
    fuse_reply_err(request, EBUSY);
    observed.answered(-1, EBUSY);
    return;
  }
  auto opened = std::make_shared<OpenGroup>(
      std::make_shared<Group>(id_, topology::Roots{}, ledger_, client), known_as, abandoned_);
  if (OpenGroup::give(opened, request, file)) {
    opened_ = opened->served;
    released_ = false;
  }
  observed.answered(0, 0);
}

void GroupNode::release(fuse_req_t request, fuse_file_info &file) {
  observe::ObservedCall observed(observer_, observe::trace::Kind::close,
                                 OpenGroup::of(file)->observed, Tid{fuse_req_ctx(request)->pid});
  observed.begins();
  OpenGroup::forget(file);
  const std::scoped_lock lock(mutex_);
  released_ = true;
  // The client's close() waits for the answer, so that the group is free when it returns. But if
  // this is the end of a client that was killed in a call, that call waits for the client's end.
  const bool answer_first = opened_->busy();
  if (answer_first)
    fuse_reply_err(request, 0);
  if (end_if_abandoned_locked())
    janitor_.repeat([node = shared_from_this(), this] { return end_if_abandoned(); });
  if (!answer_first)
    fuse_reply_err(request, 0);
  observed.answered(0, 0);
}

void GroupNode::ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command,
                      std::uint64_t argument, bool /*compat*/) {
  OpenGroup::serve(
      file, request, command, argument,
      client::Surroundings{.find_container = find_container_, .device_memory = nullptr}, observer_);
}

bool GroupNode::end_if_abandoned() {
  const std::scoped_lock lock(mutex_);
  return end_if_abandoned_locked();
}

bool GroupNode::end_if_abandoned_locked() {
  if (!opened_ || !released_)
    return false;
  if (!opened_->leave_when_unused())
    return true;
  opened_.reset();
  return false;
}

} // namespace vfio_shim::cuse
