#include "type1/operations.hpp"

#include "vfio_shim/own_process.hpp"

#include <array>
#include <memory>

#include <gtest/gtest.h>

#include "support/answer.hpp"
#include "support/pages.hpp"

namespace vfio_shim::type1 {
namespace {

using test::address_of;
using test::answer_of;
using test::answers;
using test::fails;
using test::Pages;

/// What the handler was given.
struct Target {
  Argument argument;
  int calls = 0;
};

Result<long> note(Target &target, Client & /*client*/, const Argument &argument) {
  target.argument = argument;
  ++target.calls;
  return 42;
}

struct Numbers {
  std::uint32_t argsz;
  std::uint32_t first;
  std::uint64_t second;
};

constexpr Operation<Target> by_value{1, "BY_VALUE", ArgumentKind::value, 0, note};
constexpr Operation<Target> by_pointer{2, "BY_POINTER", ArgumentKind::pointer, sizeof(int), note};
constexpr Operation<Target> by_struct{3, "BY_STRUCT", ArgumentKind::sized_struct, 8, note};
constexpr std::array<Operation<Target>, 3> table{{by_value, by_pointer, by_struct}};

class CarryOut : public testing::Test {
protected:
  OwnProcess client{[](const Fd &) { return std::shared_ptr<Container>(); }};
  Target target;

  test::Answer carry_out(const Operation<Target> &operation, std::uint64_t argument) {
    return answer_of(type1::carry_out(operation, target, client, argument));
  }
  test::Answer carry_out(const Operation<Target> &operation, const void *argument) {
    return carry_out(operation, address_of(argument).value);
  }
};

TEST(FindOperation, FindsByCommand) {
  EXPECT_EQ(find_operation(table, 2)->name, "BY_POINTER");
  EXPECT_EQ(find_operation(table, 4), nullptr);
}

TEST_F(CarryOut, HandsAValueOnUntouched) {
  EXPECT_EQ(carry_out(by_value, std::uint64_t{0xdead000000000001}), answers(42));
  EXPECT_EQ(target.argument.value, 0xdead000000000001);
}

TEST_F(CarryOut, ReadsWhatAPointerPointsTo) {
  const int number = 17;
  EXPECT_EQ(carry_out(by_pointer, &number), answers(42));
  EXPECT_EQ(target.argument.as<int>(), 17);
  EXPECT_EQ(target.argument.address(), address_of(&number));
}

TEST_F(CarryOut, ReadsOnlyTheMinimumAndGivesZerosForTheRest) {
  const Numbers numbers{.argsz = sizeof(numbers), .first = 5, .second = 6};
  EXPECT_EQ(carry_out(by_struct, &numbers), answers(42));
  EXPECT_EQ(target.argument.as<Numbers>().first, 5U);
  EXPECT_EQ(target.argument.as<Numbers>().second, 0U);
}

TEST_F(CarryOut, ReadsNothingBeyondTheMinimum) {
  const Pages pages;
  const Numbers numbers{.argsz = 8, .first = 5, .second = 6};
  EXPECT_EQ(carry_out(by_struct, pages.put_at_end(numbers, 8)), answers(42));
}

TEST_F(CarryOut, TakesAnyArgszFromTheMinimumOn) {
  for (const std::uint32_t argsz : {8U, 9U, 4096U, UINT32_MAX}) {
    const Numbers numbers{.argsz = argsz, .first = 0, .second = 0};
    EXPECT_EQ(carry_out(by_struct, &numbers), answers(42)) << argsz;
  }
}

TEST_F(CarryOut, RefusesAShortArgsz) {
  for (const std::uint32_t argsz : {0U, 4U, 7U}) {
    const Numbers numbers{.argsz = argsz, .first = 0, .second = 0};
    EXPECT_EQ(carry_out(by_struct, &numbers), fails(EINVAL)) << argsz;
  }
  EXPECT_EQ(target.calls, 0);
}

TEST_F(CarryOut, DoesNotTakeAPlainIntForASize) {
  const int zero = 0;
  EXPECT_EQ(carry_out(by_pointer, &zero), answers(42));
}

TEST_F(CarryOut, RefusesWhatCannotBeRead) {
  const Pages pages;
  const Numbers numbers{.argsz = 8, .first = 0, .second = 0};
  EXPECT_EQ(carry_out(by_struct, nullptr), fails(EFAULT));
  EXPECT_EQ(carry_out(by_struct, pages.end()), fails(EFAULT));
  EXPECT_EQ(carry_out(by_struct, pages.put_at_end(numbers, 7)), fails(EFAULT)) << "one byte short";
  EXPECT_EQ(carry_out(by_struct, UINT64_MAX), fails(EFAULT));
  EXPECT_EQ(carry_out(by_pointer, nullptr), fails(EFAULT));
  EXPECT_EQ(target.calls, 0);
}

TEST_F(CarryOut, ReadsBeforeItChecksTheSize) {
  const Pages pages;
  const Numbers too_small{.argsz = 0, .first = 0, .second = 0};
  EXPECT_EQ(carry_out(by_struct, pages.put_at_end(too_small, 4)), fails(EFAULT));
}

TEST_F(CarryOut, ReadsAStructOnAPagesBorder) {
  const Pages pages(2);
  const Numbers numbers{.argsz = 8, .first = 9, .second = 0};
  std::byte *place = pages.begin() + test::page_size - 3;
  std::memcpy(place, &numbers, sizeof(numbers));
  EXPECT_EQ(carry_out(by_struct, place), answers(42));
  EXPECT_EQ(target.argument.as<Numbers>().first, 9U);
}

TEST_F(CarryOut, WritesAsMuchOfAStructAsItIsAskedTo) {
  const Pages pages;
  const Numbers numbers{.argsz = 1, .first = 2, .second = 3};
  EXPECT_EQ(answer_of(write_struct(client, address_of(pages.end() - 8), numbers, 8)),
            test::succeeds);
  EXPECT_EQ(answer_of(write_struct(client, address_of(pages.end() - 8), numbers)), fails(EFAULT));
}

TEST(Serving, IsENOMEMWithoutMemoryOfOurOwn) {
  EXPECT_EQ(answer_of(catching_bad_alloc([]() -> Result<long> { throw std::bad_alloc(); })),
            fails(ENOMEM));
  EXPECT_EQ(answer_of(catching_bad_alloc([]() -> Result<long> { return 7; })), answers(7));
}

} // namespace
} // namespace vfio_shim::type1
