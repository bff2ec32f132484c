// SPDX-License-Identifier: MIT
#include "operation.h"

#include <array>
#include <ostream>

#include <linux/vfio.h>
#include <sys/mman.h>

#include "memory_pool.h"

namespace twin {
namespace {

struct Hex {
  std::uint64_t number;
};

std::ostream &operator<<(std::ostream &out, Hex hex) {
  return out << "0x" << std::hex << hex.number << std::dec;
}

std::ostream &operator<<(std::ostream &out, Place place) {
  static constexpr std::array names{"", ", its last byte not there", ", read-only", ", not there",
                                    ", a null pointer"};
  return out << names[static_cast<std::size_t>(place)];
}

std::ostream &operator<<(std::ostream &out, const Envelope &envelope) {
  return out << ", argsz " << envelope.argsz << envelope.place;
}

std::ostream &operator<<(std::ostream &out, const MemoryAt &memory) {
  using Base = MemoryAt::Base;
  switch (memory.base) {
  case Base::Pool:
    out << "page " << memory.page << " (" << MemoryPool::kind_of(memory.page) << ")";
    break;
  case Base::Zero:
    out << "address 0 + " << memory.page << " pages";
    break;
  case Base::Kernel:
    out << "the kernel's memory + " << memory.page << " pages";
    break;
  case Base::Top:
    out << "the top - " << -memory.page << " pages";
    break;
  }
  return memory.byte == 0 ? out : out << " + " << memory.byte << " bytes";
}

std::ostream &operator<<(std::ostream &out, const Bitmap &bitmap) {
  return out << ", bitmap of " << bitmap.size << " bytes for pages of " << Hex{bitmap.page_size}
             << bitmap.place;
}

std::string_view text_of(GetDeviceFd::Name name) {
  static constexpr std::array names{"its name",
                                    "a name that no device has",
                                    "the name of the other group's device",
                                    "an empty name",
                                    "its name without the last letter",
                                    "its name and one letter more",
                                    "its name and a space",
                                    "its name and a VF token",
                                    "its name and an unknown option"};
  return names[static_cast<std::size_t>(name)];
}

std::string_view text_of(SetContainer::File file) {
  static constexpr std::array names{"container ", "a file that is no container ",
                                    "the group itself ", "descriptor -1 "};
  return names[static_cast<std::size_t>(file)];
}

std::string text_of_protection(int protection) {
  if (protection == 0)
    return "munmap";
  return std::string{"mprotect "} + (protection & PROT_READ ? "r" : "-") +
         (protection & PROT_WRITE ? "w" : "-");
}

/// Prints the operands, by type.
struct Printer {
  std::ostream &out;

  void operator()(const OpenContainer &op) { out << op.container; }
  void operator()(const CloseContainer &op) { out << op.container; }
  void operator()(const OpenGroup &op) { out << op.group; }
  void operator()(const CloseGroup &op) { out << op.group; }
  void operator()(const SetContainer &op) {
    out << "of group " << op.group << " to " << text_of(op.file)
        << (op.file == SetContainer::File::Container ? std::to_string(op.container) : "")
        << op.place;
  }
  void operator()(const UnsetContainer &op) { out << "of group " << op.group; }
  void operator()(const GetStatus &op) { out << "of group " << op.group << op.envelope; }
  void operator()(const GetDeviceFd &op) {
    out << "of group " << op.group << ": " << text_of(op.device) << op.place;
  }
  void operator()(const CloseDevice &op) { out << "of group " << op.group; }
  void operator()(const GroupCall &op) {
    out << Hex{op.request} << " on group " << op.group << op.place;
  }
  void operator()(const DeviceCall &op) {
    out << Hex{op.request} << " on the device of group " << op.group << op.envelope;
  }
  void operator()(const CheckExtension &op) {
    out << "of container " << op.container << ": " << op.extension;
  }
  void operator()(const SetIommu &op) { out << "of container " << op.container << ": " << op.type; }
  void operator()(const GetInfo &op) { out << "of container " << op.container << op.envelope; }
  void operator()(const MapDma &op) {
    range("", op.container, op.iova, op.size);
    out << " to " << op.memory << ", flags " << Hex{op.flags} << op.envelope;
  }
  void operator()(const UnmapDma &op) {
    range("", op.container, op.iova, op.size);
    out << ", flags " << Hex{op.flags} << op.envelope;
  }
  void operator()(const UnmapGettingDirty &op) {
    (*this)(op.unmap);
    out << op.bitmap;
  }
  void operator()(const DirtyPages &op) {
    out << "of container " << op.container << ", flags " << Hex{op.flags} << op.envelope;
  }
  void operator()(const DirtyBitmap &op) {
    range("", op.container, op.iova, op.size);
    out << ", flags " << Hex{op.flags} << op.bitmap << op.envelope;
  }
  void operator()(const ContainerCall &op) {
    out << Hex{op.request} << " on container " << op.container << op.place;
  }
  void operator()(const CopyByDma &op) {
    out << "by the device of group " << op.group << " from " << Hex{op.from} << " to "
        << Hex{op.to};
  }
  void operator()(const WriteMemory &op) {
    out << "to page " << op.page << " (" << MemoryPool::kind_of(op.page) << ")";
  }
  void operator()(const ChangeMemory &op) {
    out << "of page " << op.page << " (" << MemoryPool::kind_of(op.page) << ") and " << op.count - 1
        << " more: " << text_of_protection(op.protection);
  }

  void range(std::string_view what, Slot container, std::uint64_t iova, std::uint64_t size) {
    out << what << "in container " << container << " of IOVA " << Hex{iova} << " + " << Hex{size};
  }
};

} // namespace

std::string_view name_of(const Operation &operation) {
  return std::visit([](const auto &op) { return op.name; }, operation);
}

std::ostream &operator<<(std::ostream &out, const Operation &operation) {
  out << name_of(operation) << " ";
  std::visit(Printer{out}, operation);
  return out;
}

std::ostream &operator<<(std::ostream &out, const Script &script) {
  int number = 0;
  for (const Operation &operation : script.operations)
    out << "\n  " << ++number << ". " << operation;
  return out;
}

} // namespace twin
