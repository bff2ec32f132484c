/// @file
/// The table of ioctls: what is common to all of them is done here, once.
#pragma once

#include "vfio_shim/client.hpp"
#include "vfio_shim/result.hpp"
#include "vfio_shim/units.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string_view>

namespace vfio_shim::type1 {

/// An ioctl's third argument, with the struct that it points to as far as the table says.
struct Argument {
  std::uint64_t value = 0;           ///< As the client gave it.
  std::array<std::byte, 32> bytes{}; ///< The first Operation::minimum bytes behind it.

  ClientAddr address() const { return ClientAddr{value}; }

  /// The struct. Bytes beyond what was read are 0.
  template <typename Struct>
  Struct as() const {
    static_assert(sizeof(Struct) <= sizeof(bytes));
    Struct copy{};
    std::memcpy(&copy, bytes.data(), sizeof(copy));
    return copy;
  }
};

/// How an operation's argument is to be understood.
enum class ArgumentKind : std::uint8_t {
  value,        ///< A number.
  pointer,      ///< The address of something that the handler reads by itself, or of a plain int.
  sized_struct, ///< The address of a struct that starts with `u32 argsz`.
};

/// One ioctl that objects of type @p Target answer.
template <typename Target>
struct Operation {
  unsigned int command = 0;
  std::string_view name;
  ArgumentKind kind = ArgumentKind::value;
  std::size_t minimum = 0; ///< Bytes of the argument to read; the least argsz of a sized struct.
  Result<long> (*handle)(Target &, Client &, const Argument &) = nullptr;
};

/// Reads the first @p minimum bytes of an ioctl's argument, and checks them as far as @p kind says.
/// @return EFAULT: the argument cannot be read. EINVAL: argsz is too small.
inline Result<Argument> read_argument(ArgumentKind kind, std::size_t minimum, Client &client,
                                      std::uint64_t value) {
  Argument argument{.value = value};
  VFIO_SHIM_TRY(client.read(argument.address(), std::span(argument.bytes).first(minimum)));
  if (kind == ArgumentKind::sized_struct) {
    std::uint32_t argsz = 0;
    std::memcpy(&argsz, argument.bytes.data(), sizeof(argsz));
    if (argsz < minimum)
      return fail(EINVAL, "argsz too small");
  }
  return argument;
}

/// Reads and checks the argument as @p operation says, then calls its handler.
/// @return As read_argument(); otherwise what the handler answers.
template <typename Target>
Result<long> carry_out(const Operation<Target> &operation, Target &target, Client &client,
                       std::uint64_t value) {
  const auto argument = read_argument(operation.kind, operation.minimum, client, value);
  if (!argument)
    return pass_on(argument);
  return operation.handle(target, client, *argument);
}

/// Serves a call with @p serve. @return ENOMEM: it ran out of memory of ours.
template <typename Serve>
Result<long> catching_bad_alloc(Serve serve) {
  try {
    return serve();
  } catch (const std::bad_alloc &) {
    return fail(ENOMEM, "our memory");
  }
}

/// The operation for @p command, or nullptr.
template <typename Target, std::size_t count>
const Operation<Target> *find_operation(const std::array<Operation<Target>, count> &table,
                                        unsigned int command) {
  const auto found = std::ranges::find(table, command, &Operation<Target>::command);
  return found == table.end() ? nullptr : &*found;
}

/// Reads a struct from the client.
template <typename Struct>
Result<Struct> read_struct(Client &client, ClientAddr from) {
  Struct object{};
  VFIO_SHIM_TRY(client.read(from, std::as_writable_bytes(std::span(&object, 1))));
  return object;
}

/// Writes @p object to the client, up to @p size bytes of it.
template <typename Struct>
Result<void> write_struct(Client &client, ClientAddr to, const Struct &object,
                          std::size_t size = sizeof(Struct)) {
  return client.write(to, std::as_bytes(std::span(&object, 1)).first(size));
}

} // namespace vfio_shim::type1
