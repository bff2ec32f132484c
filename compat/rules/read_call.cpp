// SPDX-License-Identifier: MIT
#include "rules/read_call.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <vector>

namespace vfio_shim::rules {

namespace {

constexpr std::size_t client_page_size = 4096;

/// Reads a string of at most a page, NUL included.
/// @return EFAULT: not readable. EINVAL: longer.
Result<std::vector<std::byte>> read_string(Client &client, ClientAddr from) {
  std::vector<std::byte> text;
  while (text.size() < client_page_size) {
    // Never past a page's end: the next page may not be there, and need not be.
    const std::uint64_t start = from.value + text.size();
    const std::size_t rest_of_page = client_page_size - start % client_page_size;
    std::array<std::byte, 64> chunk{};
    const std::size_t size = std::min({chunk.size(), rest_of_page, client_page_size - text.size()});
    const auto bytes = std::span(chunk).first(size);
    VFIO_SHIM_TRY(client.read(ClientAddr{start}, bytes));
    text.insert(text.end(), bytes.begin(), bytes.end());
    if (std::ranges::find(bytes, std::byte{0}) != bytes.end())
      return text;
  }
  return fail(EINVAL, "string longer than a page");
}

Result<void> check_size(std::span<const std::byte> argument, std::size_t wanted) {
  std::uint32_t argsz = 0;
  std::memcpy(&argsz, argument.data(), sizeof(argsz));
  if (argsz < wanted)
    return fail(EINVAL, "argsz too small");
  return {};
}

/// Reads @p least bytes; and what follows them, if they say that something does.
Result<std::vector<std::byte>> read_struct(const Operation &operation, Client &client,
                                           ClientAddr from) {
  std::vector<std::byte> bytes(operation.least);
  VFIO_SHIM_TRY(client.read(from, bytes));
  if (operation.kind == ArgumentKind::sized_struct)
    VFIO_SHIM_TRY(check_size(bytes, operation.least));
  const std::size_t whole = operation.whole != nullptr ? operation.whole(bytes) : operation.least;
  if (whole > operation.least) {
    VFIO_SHIM_TRY(check_size(bytes, whole));
    bytes.resize(whole);
    VFIO_SHIM_TRY(
        client.read(from + Bytes{operation.least}, std::span(bytes).subspan(operation.least)));
  }
  return bytes;
}

} // namespace

Result<LegacyCall> read_call(const Operation &operation, Client &client, std::uint64_t value) {
  if (operation.kind == ArgumentKind::value)
    return operation.decode(value, {});
  const auto argument = operation.kind == ArgumentKind::string
                            ? read_string(client, ClientAddr{value})
                            : read_struct(operation, client, ClientAddr{value});
  if (!argument)
    return pass_on(argument);
  return operation.decode(value, *argument);
}

} // namespace vfio_shim::rules
