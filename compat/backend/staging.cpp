// SPDX-License-Identifier: MIT
#include "backend/staging.hpp"

#include "abi/iommufd.hpp"

#include <algorithm>
#include <iterator>

namespace vfio_shim {

namespace {

/// All addresses that a program can have without asking for more than 47 bits. The first page is
/// nobody's, so no device can be attached to a map that has it: it has no memory to be pinned.
constexpr Bytes whole_address_space{0x7fff'ffff'f000};
/// Of each kind. What overlaps with something in each of them costs a borrow.
constexpr std::ptrdiff_t most_layers = 256;
/// The most mappings of the same memory through one layer: the kernel goes through all of these
/// each time.
constexpr unsigned int most_times = 256;
/// The largest memory whose pages are compared.
constexpr Bytes most_compared{64 * 1024};

} // namespace

bool Staging::Layer::overlaps(std::uint64_t start, std::uint64_t end) const {
  const auto next = in_use.lower_bound(end);
  return next != in_use.begin() && std::prev(next)->second.end > start;
}

void Staging::Layer::put_back(std::uint64_t start) {
  const auto use = in_use.find(start);
  if (use != in_use.end() && --use->second.times == 0)
    in_use.erase(use);
}

bool Staging::map(Client &client, Iova iova, ClientAddr start, Bytes size, Access access) {
  if (given_up_)
    return false;
  if (Layer *layer = layer_with_same_pages(client, start, size, access)) {
    ++layer->in_use.at(start.value).times;
    return copy_from(*layer, iova, start, size, access);
  }
  Layer *layer = unused_layer(client, start, size, access);
  if (layer == nullptr)
    return false;
  Use &use = layer->in_use[start.value];
  use = {.end = start.value + size.value, .times = 1, .pages = {}};
  // What is mapped for the second time may well be mapped again.
  const bool remember = layer->number > 0 && size <= most_compared && !of_->charged;
  auto pages = remember ? client.physical_pages(start, size) : std::vector<std::uint64_t>{};
  if (!copy_from(*layer, iova, start, size, access))
    return false;
  if (!pages.empty() && pages == client.physical_pages(start, size))
    use.pages = std::move(pages); // So they are those which are pinned.
  return true;
}

bool Staging::copy_from(Layer &layer, Iova iova, ClientAddr start, Bytes size, Access access) {
  const auto origin =
      origins_.insert_or_assign(iova, Origin{.layer = &layer, .start = start.value}).first;
  if (target_.copy(*layer.ioas, Iova{start.value}, iova, size, access))
    return true;
  layer.put_back(start.value);
  origins_.erase(origin);
  return false;
}

void Staging::unmapped(IovaRange range) {
  const auto first = origins_.lower_bound(range.first);
  const auto behind = origins_.upper_bound(range.last);
  for (auto origin = first; origin != behind; ++origin)
    if (Layer *layer = origin->second.layer)
      layer->put_back(origin->second.start);
  origins_.erase(first, behind);
}

Result<void> Staging::admit(Client &client) {
  if (given_up_)
    return {};
  const auto now = client.address_space();
  if (!now && (now.error().code == EBUSY || now.error().code == ESRCH))
    return pass_on(now);
  if (of_ && now && *of_ == *now)
    return {};
  // The layers are made anew after an exec, and when other terms apply.
  drop_layers();
  given_up_ = !now || (of_ && of_->process != now->process);
  if (!given_up_)
    of_ = *now;
  return {};
}

/// Makes layers anew when they are next needed. What was copied stays mapped.
void Staging::drop_layers() {
  layers_.clear();
  for (auto &[iova, origin] : origins_)
    origin.layer = nullptr;
}

/// A layer through which exactly that memory is mapped, with the pages that it has now. None where
/// it matters that pages which are mapped twice through one layer are charged once.
Staging::Layer *Staging::layer_with_same_pages(Client &client, ClientAddr start, Bytes size,
                                               Access access) {
  if (size > most_compared || of_->charged)
    return nullptr;
  std::vector<std::uint64_t> now;
  for (const auto &layer : layers_) {
    const auto use = layer->in_use.find(start.value);
    if (layer->writable != access.write || use == layer->in_use.end() ||
        use->second.end != start.value + size.value || use->second.times == most_times ||
        use->second.pages.empty())
      continue;
    if (now.empty())
      now = client.physical_pages(start, size);
    if (now == use->second.pages)
      return layer.get();
  }
  return nullptr;
}

Staging::Layer *Staging::unused_layer(Client &client, ClientAddr start, Bytes size, Access access) {
  const auto is_right_kind = [&](const auto &layer) { return layer->writable == access.write; };
  const auto suits = [&](const auto &layer) {
    return is_right_kind(layer) && !layer->overlaps(start.value, start.value + size.value);
  };
  if (const auto found = std::ranges::find_if(layers_, suits); found != layers_.end())
    return found->get();
  const auto number = std::ranges::count_if(layers_, is_right_kind);
  return number < most_layers ? make_layer(client, access, number) : nullptr;
}

Staging::Layer *Staging::make_layer(Client &client, Access access, std::ptrdiff_t number) {
  auto ioas = Ioas::make(iommufd_);
  if (!ioas || !(*ioas)->map_addresses(client, Iova{0}, ClientAddr{0}, whole_address_space,
                                       {.read = true, .write = access.write}))
    return nullptr;
  return layers_
      .emplace_back(std::make_unique<Layer>(Layer{
          .ioas = std::move(*ioas), .number = number, .writable = access.write, .in_use = {}}))
      .get();
}

} // namespace vfio_shim
