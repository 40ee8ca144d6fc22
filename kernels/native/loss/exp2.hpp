// Coefficients of 2^f on [-1/2, 1/2] with the least relative error (Remez): sum of kExp2[k] f^k.
#pragma once

#include <cstdint>

namespace mtaw {
namespace {

constexpr int kExp2Degree = 6;  // error 1.9e-9, below float32's rounding
constexpr float kExp2[] = {0x1.00000002614ffp+0F, 0x1.62e430c7e91afp-1F,  0x1.ebfbdadcb136fp-3F, 0x1.c6aed4b95c606p-5F,
                           0x1.3b2dbbc0aa7a3p-7F, 0x1.5f456a867c735p-10F, 0x1.41d333a1fbff9p-13F};

constexpr int kExp2ShortDegree = 4;  // error 2.6e-6, a thousandth of bfloat16's rounding
constexpr float kExp2Short[] = {0x1.ffffe737e0a05p-1F, 0x1.62e0dcccee3bap-1F, 0x1.ec06daa9725f3p-3F,
                                0x1.ca1440a8e5175p-5F, 0x1.3997d5960b322p-7F};

// x + kRounder leaves round(x) in the last bits of the sum, for |x| < 2^22; shifted left by 23 they are an exponent.
constexpr float kRounder = 0x1.8p+23F;

constexpr std::int32_t kRootHalfBits = 0x3F3504F3;  // of sqrt(1/2), from where a mantissa is split off

}  // namespace
}  // namespace mtaw
