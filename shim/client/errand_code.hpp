/// @file
/// The few instructions that a thread of ours in a client is made of. x86-64.
#pragma once

#include "vfio_shim/units.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace vfio_shim::client {

/// Machine code from which a client's thread makes another thread, and from which that one makes
/// system calls.
///
/// Both threads are stopped wherever this code would go on. It is for the case that we die, and the
/// kernel lets them go: the new thread then ends itself, and the old one returns from its ioctl.
class ErrandCode {
public:
  static constexpr std::size_t word_size = sizeof(std::uint64_t);
  using Words = std::array<std::uint64_t, 6>;

  /// The code for a thread that is to go on at @p way_back with @p ioctl_result.
  static Words words(ClientAddr way_back, std::int32_t ioctl_result) {
    std::array<std::uint8_t, sizeof(Words)> code{
        0x0f, 0x05,                                  // clone:  syscall
        0x85, 0xc0,                                  //         test   eax, eax
        0x74, 0x15,                                  //         jz     end
        0x48, 0xc7, 0xc0, 0x00, 0x00, 0x00, 0x00,    //         mov    rax, ioctl_result
        0xff, 0x25, 0x00, 0x00, 0x00, 0x00,          //         jmp    [way_back]
        0,    0,    0,    0,    0,    0,    0,    0, // way_back
        0x31, 0xff,                                  // end:    xor    edi, edi
        0xb8, 0x3c, 0x00, 0x00, 0x00,                //         mov    eax, SYS_exit
        0x0f, 0x05,                                  //         syscall
        0xeb, 0xf5,                                  //         jmp    end
        0x0f, 0x05,                                  // errand: syscall
        0xeb, 0xf1,                                  //         jmp    end
    };
    put(code, 9, static_cast<std::uint32_t>(ioctl_result), sizeof(std::uint32_t));
    put(code, 19, way_back.value, sizeof(std::uint64_t));
    return std::bit_cast<Words>(code);
  }

  /// Where the syscall instructions end, from the start of the code.
  static constexpr Bytes clone_end{2};
  static constexpr Bytes errand_end{40};

private:
  /// Little-endian, at @p place.
  static void put(std::array<std::uint8_t, sizeof(Words)> &code, std::size_t place,
                  std::uint64_t value, std::size_t size) {
    constexpr unsigned bits_per_byte = 8;
    for (std::size_t at = 0; at < size; ++at)
      code.at(place + at) = static_cast<std::uint8_t>(value >> (at * bits_per_byte));
  }
};

} // namespace vfio_shim::client
