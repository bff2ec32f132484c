// SPDX-License-Identifier: MIT
/// @file
/// The container's ioctls, one handler each. What they answer is decided in rules/; here it is
/// done.

#include "rules/container_rules.hpp"
#include "rules/operations.hpp"
#include "rules/read_call.hpp"
#include "type1/catching_bad_alloc.hpp"
#include "type1/container_turn.hpp"
#include "type1/dirty_pages.hpp"

#include "vfio_shim/container.hpp"

#include <chrono>
#include <iterator>
#include <optional>
#include <thread>

#include <linux/vfio.h>

namespace vfio_shim {

using rules::MappingTable;

/// Serves one call, with the container's lock held.
struct ContainerCalls {
  Container &container;
  Client &client;
  ClientAddr argument;            ///< Where the call's struct lies, for those that have one.
  std::optional<Outcome> outcome; ///< Of its first time.

  Result<long> operator()(const rules::GetApiVersion & /*call*/) const { return VFIO_API_VERSION; }

  Result<long> operator()(const rules::CheckExtension &call) const {
    return rules::answer_to(call, container.iommu_.get());
  }

  Result<long> operator()(const rules::SetIommu &call) const {
    const auto version =
        rules::check_set_iommu(call, !container.groups_.empty(), container.iommu_ != nullptr);
    if (!version)
      return pass_on(version);
    container.iommu_ = std::make_unique<rules::AddressSpaceState>(
        rules::AddressSpaceState{.version = *version,
                                 .space = {},
                                 .mappings = MappingTable(container.options_.mapping_limit)});
    client.about_to({.kind = Intention::Kind::set_iommu});
    const auto attached = container.refresh_address_space();
    if (!attached) {
      container.iommu_.reset();
      return pass_on(attached);
    }
    container.note_backend();
    container.ledger_.iommu_set(container.record_, static_cast<std::uint32_t>(call.type));
    go_express_if_chosen(call);
    return 0;
  }

  Result<long> operator()(const rules::GetInfo &call) const {
    const auto answer = rules::answer_to(call, *container.iommu_);
    if (!answer.chain.empty())
      VFIO_SHIM_TRY(client.write(argument + answer.chain_offset, answer.chain));
    VFIO_SHIM_TRY(client.write(argument, answer.head));
    return 0;
  }

  Result<long> operator()(const rules::MapDma &call) const {
    if (call.vaddr_only())
      return update_vaddr(call);
    auto &iommu = *container.iommu_;
    VFIO_SHIM_TRY(rules::check_map(call, iommu));
    VFIO_SHIM_TRY(container.attach_claimed());
    if (iommu.express) { // The kernel knows what is mapped already.
      VFIO_SHIM_TRY(container.backend_->map(client, call.request()));
      client.about_to({.kind = Intention::Kind::done});
      return 0;
    }
    // Once it is mapped, nothing may fail any more.
    const MapRequest request = call.request();
    auto entry = MappingTable::entry_of(request);
    client.about_to(
        {.kind = Intention::Kind::map, .range = rules::range_of(request), .vaddr = request.vaddr});
    VFIO_SHIM_TRY(map(request));
    entry.mapped().record = container.ledger_.mapped(container.record_, {.iova = request.iova,
                                                                         .vaddr = request.vaddr,
                                                                         .size = request.size,
                                                                         .access = request.access});
    if (entry.mapped().record == 0) {
      (void)container.backend_->unmap(rules::range_of(request));
      return fail_for_operator(ENOMEM, "the ledger has no room for another mapping");
    }
    iommu.mappings.insert(std::move(entry));
    return 0;
  }

  Result<long> operator()(const rules::UnmapDma &call) const {
    if (container.iommu_->express)
      return unmap_as_client(call);
    const auto run = rules::find_unmap(call, *container.iommu_);
    if (!run)
      return pass_on(run);
    const bool has_begun = outcome && outcome->size.value != 0;
    const Bytes size = has_begun ? outcome->size : run->size;
    if (call.bitmap)
      VFIO_SHIM_TRY(take_away_and_report(*run, {.place = *call.bitmap, .base = call.iova}, size));
    else if (call.vaddr_only() && !run->empty())
      invalidate_vaddr(*run);
    else if (!run->empty())
      VFIO_SHIM_TRY(take_away(*run, {.kind = Intention::Kind::unmap, .size = size}));
    return answer_with(call, size);
  }

  Result<long> operator()(const rules::DirtyPages &call) const {
    return type1::dirty_pages(*container.iommu_, *container.backend_, client, call,
                              {.ledger = container.ledger_, .container = container.record_});
  }

  /// What is no call on a container.
  template <typename Other>
  Result<long> operator()(const Other & /*call*/) const {
    return fail(ENOTTY, "unknown ioctl");
  }

  /// Answers a call that has been carried out, but not answered.
  Result<long> answer_again(const rules::LegacyCall &call) const {
    if (const auto *const set = std::get_if<rules::SetIommu>(&call)) // On the old file still.
      go_express_if_chosen(*set);
    const auto *const unmap = std::get_if<rules::UnmapDma>(&call);
    return unmap != nullptr ? answer_with(*unmap, outcome->size) : Result<long>(0);
  }

private:
  void go_express_if_chosen(const rules::SetIommu &call) const {
    if (container.iommu_ && container.options_.express && container.options_.express(client))
      container.go_express(client, call.type);
  }

  Result<long> answer_with(const rules::UnmapDma &call, Bytes size) const {
    rules::UnmapDma answer = call;
    answer.size = size;
    answer.bitmap.reset();
    VFIO_SHIM_TRY(client.write(argument, rules::encode(answer)));
    return 0;
  }

  /// Leaves it to the kernel, which alone knows what is mapped there.
  Result<long> unmap_as_client(const rules::UnmapDma &call) const {
    if (call.gets_bitmap()) {
      const auto range = rules::check_unmap_and_report(call, *container.iommu_);
      if (!range)
        return pass_on(range);
      VFIO_SHIM_TRY(
          type1::report_all_dirty(client, *range, {.place = *call.bitmap, .base = call.iova}));
    }
    const std::uint32_t flags = call.flags & ~std::uint32_t{VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP};
    const auto unmapped = container.backend_->unmap_as_client(flags, call.iova, call.size);
    if (!unmapped)
      return pass_on(unmapped);
    client.about_to({.kind = Intention::Kind::done, .size = *unmapped});
    return answer_with(call, *unmapped);
  }

  /// A call that was lent to the client (an errand) by a process that has died may have mapped it
  /// only now.
  Result<void> map(const MapRequest &request) const {
    auto mapped = container.backend_->map(client, request);
    if (mapped || mapped.error().code != EEXIST)
      return mapped;
    VFIO_SHIM_TRY(unmap(rules::range_of(request)));
    return container.backend_->map(client, request);
  }

  /// That call may not be over: it waits for pages of its client, as this one would.
  Result<void> unmap(IovaRange range) const {
    constexpr std::chrono::milliseconds glance{2};
    for (;;) {
      auto done = container.backend_->unmap(range);
      if (done || done.error().code != EBUSY)
        return done;
      std::this_thread::sleep_for(glance);
    }
  }

  Result<long> update_vaddr(const rules::MapDma &call) const {
    const auto found = rules::find_without_vaddr(call, *container.iommu_);
    if (!found)
      return pass_on(found);
    auto &mapping = (*found)->second;
    client.about_to({.kind = Intention::Kind::give_vaddr,
                     .range = rules::range_of(call.request()),
                     .vaddr = call.vaddr});
    mapping.vaddr = call.vaddr;
    mapping.vaddr_valid = true;
    container.ledger_.vaddr_changed(container.record_, mapping.record, mapping.vaddr);
    return 0;
  }

  /// The mappings stay, and so do their pages: nobody looks them up again by their addresses in the
  /// client.
  void invalidate_vaddr(const MappingTable::Run &run) const {
    client.about_to({.kind = Intention::Kind::take_vaddr, .range = run.range(), .size = run.size});
    for (auto entry = run.begin; entry != run.end; ++entry) {
      entry->second.vaddr_valid = false;
      container.ledger_.vaddr_changed(container.record_, entry->second.record, std::nullopt);
    }
  }

  /// Mapping by mapping, so that what a device writes is reported up to the last moment. If the
  /// client's bitmap ends too early, those before are gone, as in type1.
  Result<void> take_away_and_report(const MappingTable::Run &run, const type1::DirtyBitmap &bitmap,
                                    Bytes size) const {
    for (auto entry = run.begin; entry != run.end;) {
      VFIO_SHIM_TRY(
          type1::report_dirty(*container.backend_, client, *entry, bitmap, AfterReport::keep,
                              {.ledger = container.ledger_, .container = container.record_}));
      const auto next = std::next(entry);
      VFIO_SHIM_TRY(take_away({.begin = entry, .end = next, .size = {}},
                              {.kind = Intention::Kind::report_and_unmap, .size = size}));
      entry = next;
    }
    return {};
  }

  Result<void> take_away(const MappingTable::Run &run, Intention intention) const {
    intention.range = run.range();
    client.about_to(intention);
    VFIO_SHIM_TRY(unmap(run.range()));
    container.forget(run);
    return {};
  }
};

Result<long> Container::call(Client &client, unsigned int command, std::uint64_t argument) {
  return type1::catching_bad_alloc([&]() -> Result<long> {
    const auto *const operation = rules::find_operation(command);
    VFIO_SHIM_TRY(may_be_asked(operation));
    // The client may make this wait for ever. Nobody else shall.
    const auto call = rules::read_call(*operation, client, argument);
    if (!call)
      return pass_on(call);
    const Turn turn(*this);
    const ContainerCalls calls{.container = *this,
                               .client = client,
                               .argument = ClientAddr{argument},
                               .outcome = client.outcome()};
    if (calls.outcome && calls.outcome->carried_out)
      return calls.answer_again(*call);
    VFIO_SHIM_TRY(rules::check_operation(operation, iommu_.get())); // The last group may have left.
    if (iommu_ && iommu_->space.page_sizes == 0)
      VFIO_SHIM_TRY(read_address_space()); // Put off in adopt().
    return std::visit(calls, *call);
  });
}

/// The container's own calls are never refused, so nobody waits for a turn because of them.
Result<void> Container::may_be_asked(const rules::Operation *operation) {
  if (rules::check_operation(operation, nullptr))
    return {};
  const Turn turn(*this);
  return rules::check_operation(operation, iommu_.get());
}

std::string_view Container::call_name(unsigned int command) {
  const auto *const operation = rules::find_operation(command);
  return operation != nullptr && operation->target != rules::Target::group ? operation->name
                                                                           : std::string_view{};
}

} // namespace vfio_shim
