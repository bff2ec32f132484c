// SPDX-License-Identifier: MIT
#include "cuse/container_node.hpp"

#include "client/calling_thread.hpp"
#include "client/descriptor_reserve.hpp"
#include "client/descriptor_transfer.hpp"
#include "client/express.hpp"
#include "client/process_handle.hpp"
#include "cuse/refuse_open.hpp"
#include "cuse/refuse_unknown.hpp"
#include "observe/observed_call.hpp"

#include "vfio_shim/call_witness.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vfio_shim::cuse {

namespace {

/// Outside the range of numbers that VFIO uses.
constexpr unsigned int identify = _IO('S', 0xf0);

} // namespace

Result<std::shared_ptr<ContainerNode>>
ContainerNode::create(WorkerPool &pool, NodeLook look, client::LeftInClients &left_in_clients,
                      CallBook &calls, ContainerLimits limits, ContainerOptions options,
                      observe::SharedLedger &ledger, std::shared_ptr<DeviceMemory> device_memory,
                      observe::Observer &observer) {
  std::shared_ptr<ContainerNode> node(new ContainerNode(pool, look.name, left_in_clients, calls,
                                                        limits, std::move(options), ledger,
                                                        std::move(device_memory), observer));
  VFIO_SHIM_TRY(node->appear(std::move(look)));
  return node;
}

unsigned int ContainerNode::identify_command() {
  return identify;
}

ContainerNode::ContainerNode(WorkerPool &pool, const std::string &name,
                             client::LeftInClients &left_in_clients, CallBook &calls,
                             ContainerLimits limits, ContainerOptions options,
                             observe::SharedLedger &ledger,
                             std::shared_ptr<DeviceMemory> device_memory,
                             observe::Observer &observer)
    : Node(pool, name),
      left_in_clients_(left_in_clients),
      calls_(calls),
      limits_(limits),
      options_(std::move(options)),
      ledger_(ledger),
      device_memory_(std::move(device_memory)),
      observer_(observer) {}

void ContainerNode::open(fuse_req_t request, fuse_file_info &file) {
  const Tid thread{fuse_req_ctx(request)->pid};
  const User opener = user_behind(fuse_req_ctx(request)->uid, thread);
  const auto known_as = observer_.opening(options_.ledger->next_file(), opener.process);
  observe::ObservedCall observed(observer_, observe::trace::Kind::open_container, known_as, thread);
  observed.begins();
  auto container = make_container(opener.user, known_as->number(), opener.process);
  if (!container) {
    refuse_open(request, *this, opener.process, container.error(), observer_);
    observed.answered(-1, container.error().code);
    return;
  }
  OpenContainer::give(
      files_, std::make_shared<OpenContainer>(std::move(*container), known_as, left_in_clients_),
      request, file);
  observed.answered(0, 0);
}

ContainerNode::User ContainerNode::user_behind(uid_t user, Tid thread) {
  const User opener{.user = user, .process = client::process_of(thread)};
  if (opener.process.value != ::getpid())
    return opener;
  const std::scoped_lock lock(mutex_);
  const auto known = opening_for_.find(thread.value);
  return known == opening_for_.end() ? opener : known->second;
}

Result<client::Substitute> ContainerNode::open_for(const User &who) {
  const int thread = static_cast<int>(::syscall(SYS_gettid));
  {
    const std::scoped_lock lock(mutex_);
    opening_for_.insert_or_assign(thread, who);
  }
  Fd file{::open(path().c_str(), O_RDWR | O_CLOEXEC)};
  const auto opened = file ? Result<void>{} : client::fail_for_want_of_descriptors(path().string());
  {
    const std::scoped_lock lock(mutex_);
    opening_for_.erase(thread);
  }
  if (!opened)
    return pass_on(opened);
  auto container = ask_who_it_is(file);
  if (!container)
    return pass_on(container);
  if (!*container)
    return fail(ENODEV, fmt::format("{} is not ours any more", path().string()));
  return client::Substitute{.file = std::move(file), .container = std::move(*container)};
}

Result<std::shared_ptr<Container>> ContainerNode::make_container(uid_t user, FileNumber number,
                                                                 Pid client) {
  VFIO_SHIM_TRY(client::room_for_lasting_descriptors());
  return counted(user, [&] {
    auto opened = Container::open(options_, number, client);
    if (opened)
      ledger_.container_of((*opened)->record(), user, Session::first_number_under_way());
    return opened;
  });
}

Result<std::shared_ptr<Container>> ContainerNode::adopt(const ContainerState &state,
                                                        const std::vector<GroupState> &groups) {
  auto container = counted(state.user, [&] { return Container::adopt(options_, state, groups); });
  if (container && !state.closed)
    files_.add(state.file,
               std::make_shared<OpenContainer>(
                   *container, observer_.opening(state.file, state.client), left_in_clients_));
  return container;
}

client::ResidentDescriptors *ContainerNode::residents_of(FileNumber file) {
  const auto found = files_.find(file);
  return found ? &found->residents : nullptr;
}

/// A container lives on with its groups when its file is closed, and counts as long as it lives.
Result<std::shared_ptr<Container>>
ContainerNode::counted(uid_t user,
                       const std::function<Result<std::shared_ptr<Container>>()> &make) {
  struct Counted {
    OpenLimits::Place place;
    std::shared_ptr<Container> container; ///< Gone before the place is given back.
  };
  auto place = limits_.take(user);
  if (!place)
    return pass_on(place);
  auto container = make();
  if (!container)
    return pass_on(container);
  auto counted = std::make_shared<Counted>(std::move(*place), std::move(*container));
  std::shared_ptr<Container> known(counted, counted->container.get());
  const std::scoped_lock lock(mutex_);
  std::erase_if(containers_, [](const auto &one) { return one.expired(); });
  containers_.push_back(known);
  return known;
}

void ContainerNode::release(fuse_req_t request, fuse_file_info &file) {
  auto closed = files_.take(OpenContainer::number_of(file));
  if (!closed)
    return refuse_unknown(request, *this, file, observer_);
  observe::ObservedCall observed(observer_, observe::trace::Kind::close, closed->observed,
                                 Tid{fuse_req_ctx(request)->pid});
  observed.begins();
  closed->served->note_closed();
  calls_.forget(closed->observed->number());
  closed.reset();
  fuse_reply_err(request, 0);
  observed.answered(0, 0);
}

void ContainerNode::ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command,
                          std::uint64_t argument, bool compat) {
  const auto opened = files_.find(OpenContainer::number_of(file));
  if (!opened)
    return refuse_unknown(request, *this, file, observer_);
  if (command == identify && answer_identify(argument, opened)) {
    fuse_reply_ioctl(request, 0, nullptr, 0);
    return;
  }
  if (command == client::stand_for_iommufd) {
    const auto done = answer_stand_for(Tid{fuse_req_ctx(request)->pid}, argument, opened);
    if (done)
      fuse_reply_ioctl(request, 0, nullptr, 0);
    else
      fuse_reply_err(request, done.error().code);
    return;
  }
  OpenContainer::serve(
      opened, request, command, argument,
      client::Surroundings{
          .areas = left_in_clients_.areas,
          .find_container = [this](const Fd &file, Pid /*who*/) { return ask_who_it_is(file); },
          .device_memory = device_memory_,
          .is_32_bit = compat},
      calls_, observer_);
}

Result<std::shared_ptr<Container>> ContainerNode::find(const Fd &file, const User &who) {
  if (!client::is_iommufd(file))
    return ask_who_it_is(file);
  if (auto known = find_express(file))
    return known;
  return options_.express ? make_express(file, who) : nullptr;
}

std::shared_ptr<Container> ContainerNode::find_express(const Fd &iommufd) {
  std::vector<std::shared_ptr<Container>> all; // They may end here, which takes its time.
  {
    const std::scoped_lock lock(mutex_);
    for (const auto &one : containers_)
      all.push_back(one.lock());
  }
  const auto found = std::ranges::find_if(
      all, [&](const auto &one) { return one != nullptr && one->is_express_as(iommufd); });
  return found == all.end() ? nullptr : *found;
}

/// Its groups have left it, and its client takes it for a container still.
Result<std::shared_ptr<Container>> ContainerNode::make_express(const Fd &iommufd, const User &who) {
  Fd copy = iommufd.duplicate();
  if (!copy)
    return fail_errno("F_DUPFD_CLOEXEC");
  VFIO_SHIM_TRY(client::room_for_lasting_descriptors());
  return counted(who.user, [&] {
    auto opened =
        Container::open_on(std::move(copy), options_, options_.ledger->next_file(), who.process);
    if (opened)
      ledger_.container_of((*opened)->record(), who.user, Session::first_number_under_way());
    return opened;
  });
}

Result<void> ContainerNode::answer_stand_for(Tid thread, std::uint64_t number,
                                             const Handle &opened) {
  const auto caller = client::open_thread(thread);
  if (!caller)
    return pass_on(caller);
  const auto file = client::copy_descriptor(*caller, ClientFd{static_cast<int>(number)});
  if (!file)
    return pass_on(file);
  const auto container = find_express(*file);
  if (!container)
    return fail(ENOENT, "no container's iommufd");
  ledger_.stands_for(opened->served->record(), container->record());
  opened->stand_for(container);
  return {};
}

void ContainerNode::stand_for(FileNumber file, const std::shared_ptr<Container> &other) {
  if (const auto found = files_.find(file))
    found->stand_for(other);
}

Result<std::shared_ptr<Container>> ContainerNode::ask_who_it_is(const Fd &file) {
  struct stat opened {};
  if (::fstat(file.get(), &opened) != 0)
    return fail_errno("fstat");
  if (!S_ISCHR(opened.st_mode) || opened.st_rdev != device_number())
    return nullptr;
  std::uint64_t token = 0;
  if (::getrandom(&token, sizeof(token), 0) != sizeof(token))
    return fail_errno("getrandom");
  {
    const std::scoped_lock lock(mutex_);
    questions_.emplace(token, nullptr);
  }
  WorkerPool::let_others_in(); // Somebody has to answer.
  const bool asked = ::ioctl(file.get(), identify, token) == 0;
  const int why_not = errno;
  Handle found;
  {
    const std::scoped_lock lock(mutex_);
    found = std::move(questions_.extract(token).mapped());
  }
  if (!found)
    return asked || why_not == ENOTTY ? Result<std::shared_ptr<Container>>(nullptr)
                                      : fail(why_not, "asking the container's file who it is");
  CallWitness::current().recognised_file(found->observed->number());
  return found->current();
}

bool ContainerNode::answer_identify(std::uint64_t token, const Handle &opened) {
  const std::scoped_lock lock(mutex_);
  const auto question = questions_.find(token);
  if (question == questions_.end())
    return false;
  question->second = opened;
  return true;
}

} // namespace vfio_shim::cuse
