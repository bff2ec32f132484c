// SPDX-License-Identifier: MIT
#include "cuse/node.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vfio_shim::cuse {

Node::Node(WorkerPool &pool, const std::string &name)
    : pool_(pool), name_(name), path_(std::filesystem::path("/dev") / name) {}

Result<void> Node::go_on(NodeLook look) {
  const dev_t number = look.number.number();
  auto session = Session::adopt(name_, std::move(look.number), shared_from_this(), *look.store,
                                std::move(look.connection));
  if (!session)
    return pass_on(session);
  session_ = std::move(*session);
  return find_it(number, look.permissions);
}

/// The device is there in any case. Its node may have been taken away meanwhile, by `release`.
Result<void> Node::find_it(dev_t number, const NodePermissions &permissions) {
  struct stat node {};
  if (::stat(path_.c_str(), &node) == 0) {
    device_number_ = node.st_rdev;
    return {};
  }
  device_number_ = number;
  if (::mknod(path_.c_str(), S_IFCHR | S_IRUSR | S_IWUSR, number) != 0)
    return fail_errno(path_);
  return give_to(permissions);
}

Result<void> Node::give_to(const NodePermissions &permissions) const {
  if (::chown(path_.c_str(), permissions.owner, permissions.group) != 0 ||
      ::chmod(path_.c_str(), permissions.mode) != 0)
    return fail_errno(fmt::format("setting owner and mode of {}", path_.string()));
  return {};
}

Result<void> Node::appear(NodeLook look) {
  if (look.connection)
    return go_on(std::move(look));
  std::error_code error;
  if (std::filesystem::exists(path_, error))
    return fail(EEXIST, path_);
  // Until it is kept, every way out takes the device away again.
  const dev_t number = look.number.number();
  auto session = Session::create(name_, std::move(look.number), shared_from_this(), look.store);
  if (!session)
    return pass_on(session);
  struct stat node {};
  if (::stat(path_.c_str(), &node) != 0)
    return fail_errno(fmt::format("{}: the kernel did not create it{}", path_.string(),
                                  number == 0 ? "" : " (" + describe_number(number) + ")"));
  if (number != 0 && node.st_rdev != number) // Somebody was quicker.
    return fail(EEXIST, path_);
  device_number_ = node.st_rdev;
  VFIO_SHIM_TRY(give_to(look.permissions));
  VFIO_SHIM_TRY(pool_.add(*session));
  session_ = std::move(*session);
  return {};
}

void Node::disappear() {
  if (session_)
    pool_.remove(*session_);
  session_.reset();
  // The kernel takes it away, unless we have made it (see find_it()) or a call is stuck. It leaves
  // a directory that it did not empty itself.
  struct stat node {};
  if (device_number_ != 0 && ::stat(path_.c_str(), &node) == 0 && node.st_rdev == device_number_ &&
      ::unlink(path_.c_str()) == 0)
    ::rmdir(path_.parent_path().c_str());
  device_number_ = 0;
}

} // namespace vfio_shim::cuse
