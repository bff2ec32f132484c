#include "cuse/container_node.hpp"

#include "client/calling_thread.hpp"
#include "cuse/call_queue.hpp"

#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>

namespace vfio_shim::cuse {

namespace {

/// Outside the range of numbers that VFIO uses.
constexpr unsigned int identify_command = _IO('S', 0xf0);

struct OpenContainer {
  std::shared_ptr<Container> container;
  CallQueue queue;
};

using Handle = std::shared_ptr<OpenContainer>;

Handle &handle_of(const fuse_file_info &file) {
  return *reinterpret_cast<Handle *>(file.fh);
}

} // namespace

Result<std::shared_ptr<ContainerNode>> ContainerNode::create(WorkerPool &pool,
                                                             const std::string &name,
                                                             const NodePermissions &permissions,
                                                             ContainerOptions options) {
  std::shared_ptr<ContainerNode> node(new ContainerNode(pool, name, std::move(options)));
  VFIO_SHIM_TRY(node->appear(permissions));
  return node;
}

ContainerNode::ContainerNode(WorkerPool &pool, const std::string &name, ContainerOptions options)
    : Node(pool, name), options_(std::move(options)) {}

void ContainerNode::open(fuse_req_t request, fuse_file_info &file) {
  auto opened = std::make_shared<OpenContainer>();
  opened->container =
      std::make_shared<Container>(options_, client::process_of(Tid{fuse_req_ctx(request)->pid}));
  auto handle = std::make_unique<Handle>(std::move(opened));
  file.fh = reinterpret_cast<std::uint64_t>(handle.get());
  // If the client was killed while it opened, the kernel will not release what it never got.
  ++open_files_;
  if (fuse_reply_open(request, &file) == 0)
    (void)handle.release();
  else
    --open_files_;
}

void ContainerNode::release(fuse_req_t request, fuse_file_info &file) {
  delete &handle_of(file);
  --open_files_;
  fuse_reply_err(request, 0);
}

void ContainerNode::ioctl(fuse_req_t request, fuse_file_info &file, unsigned int command,
                          std::uint64_t argument, bool /*compat*/) {
  const Handle opened = handle_of(file);
  if (command == identify_command && answer_identify(argument, opened->container)) {
    fuse_reply_ioctl(request, 0, nullptr, 0);
    return;
  }
  opened->queue.submit(
      std::make_unique<Call>(request, command, argument, [](const Fd &) { return nullptr; }),
      [container = opened->container.get()](Call &call) {
        call.reply(Container::call_name(call.command()),
                   container->call(call.client(), call.command(), call.argument()));
      });
}

std::shared_ptr<Container> ContainerNode::find(const Fd &file) {
  struct stat opened {};
  if (::fstat(file.get(), &opened) != 0 || !S_ISCHR(opened.st_mode) ||
      opened.st_rdev != device_number())
    return nullptr;
  std::uint64_t token = 0;
  if (::getrandom(&token, sizeof(token), 0) != sizeof(token))
    return nullptr;
  {
    const std::scoped_lock lock(mutex_);
    questions_.emplace(token, nullptr);
  }
  ::ioctl(file.get(), identify_command, token);
  const std::scoped_lock lock(mutex_);
  return std::move(questions_.extract(token).mapped());
}

bool ContainerNode::answer_identify(std::uint64_t token,
                                    const std::shared_ptr<Container> &container) {
  const std::scoped_lock lock(mutex_);
  const auto question = questions_.find(token);
  if (question == questions_.end())
    return false;
  question->second = container;
  return true;
}

} // namespace vfio_shim::cuse
