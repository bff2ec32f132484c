// SPDX-License-Identifier: MIT
#include "group.h"

#include <fcntl.h>
#include <linux/vfio.h>

namespace legacy {

Group::Group(const Provider &provider, GroupId id)
    : fd_{Fd::open(provider.group_path(id), O_RDWR)} {}

Answer Group::try_open(const Provider &provider, GroupId id) {
  return Fd::try_open(provider.group_path(id), O_RDWR);
}

Answer Group::status() const {
  vfio_group_status status{};
  status.argsz = sizeof(status);
  const Answer answer = fd_.ioctl(VFIO_GROUP_GET_STATUS, &status);
  return answer == succeeds ? answers(status.flags) : answer;
}

Answer Group::set_container(const Container &container) const {
  return set_container(container.fd().number());
}

Answer Group::set_container(int fd) const {
  return fd_.ioctl(VFIO_GROUP_SET_CONTAINER, &fd);
}

Answer Group::unset_container() const {
  return fd_.ioctl(VFIO_GROUP_UNSET_CONTAINER);
}

Device Group::device(const std::string &name) const {
  const Answer answer = fd_.ioctl(VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  return Device{Fd{static_cast<int>(answer.or_throw("VFIO_GROUP_GET_DEVICE_FD " + name))}};
}

Answer Group::try_device(const std::string &name) const {
  const Answer answer = fd_.ioctl(VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (!answer.ok())
    return answer;
  Fd closing{static_cast<int>(answer.value())};
  return succeeds;
}

} // namespace legacy
