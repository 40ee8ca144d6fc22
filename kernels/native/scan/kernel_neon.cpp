#include <arm_neon.h>

#include "scan/kernel_body.hpp"

namespace mtaw {
namespace {

// A block is four registers of 4 items.
struct Neon {
    static constexpr bool kPackAlways = false;

    struct Sums {
        int32x4_t part[4];
    };
    struct Line {
        int8x16_t part[4];
    };
    using Words = int8x16_t;
    struct Items {
        float32x4_t steps[4];
        float32x4_t residuals[4];
    };

    static MTAW_INLINE Sums zero() {
        const int32x4_t nothing = vdupq_n_s32(0);
        return {{nothing, nothing, nothing, nothing}};
    }
    static MTAW_INLINE Sums start(const ScanLane& /*lane*/) { return zero(); }
    static MTAW_INLINE Sums add(const Sums& a, const Sums& b) {
        Sums sums;
        for (int p = 0; p < 4; ++p) sums.part[p] = vaddq_s32(a.part[p], b.part[p]);
        return sums;
    }
    static MTAW_INLINE Sums double_plus(const Sums& sums, std::int32_t bias) {
        const int32x4_t biases = vdupq_n_s32(bias);
        return add(add(sums, sums), {{biases, biases, biases, biases}});
    }
    // The product is of signed bytes: flipping the top bit takes the 128 off again.
    static MTAW_INLINE Line load_line(const std::uint8_t* address) {
        Line line;
        for (int p = 0; p < 4; ++p) {
            line.part[p] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(address + 16 * p), vdupq_n_u8(128)));
        }
        return line;
    }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        for (int p = 0; p < 4; ++p) {
            const uint8x16_t halves = vld1q_u8(address + 16 * p);
            low.part[p] = vreinterpretq_s8_u8(vandq_u8(halves, vdupq_n_u8(15)));
            high.part[p] = vreinterpretq_s8_u8(vshrq_n_u8(halves, 4));
        }
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        std::int32_t word;
        std::memcpy(&word, lane.codes + line * kLineDims, 4);
        return vreinterpretq_s8_s32(vdupq_n_s32(word));
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        for (int p = 0; p < 4; ++p) sums.part[p] = vdotq_s32(sums.part[p], line.part[p], words);
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        Items items;
        for (int p = 0; p < 4; ++p) {
            const uint32x4_t words = vreinterpretq_u32_u8(vld1q_u8(address + 16 * p));
            items.steps[p] = vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xFFFF0000U)));
            items.residuals[p] = vreinterpretq_f32_u32(vshlq_n_u32(words, 16));
        }
        return items;
    }
    static MTAW_INLINE std::uint32_t above_cut(const Sums& sums, const Items& items, const ScanLane& lane) {
        const std::uint32_t item_bits[4] = {1, 2, 4, 8};
        const uint32x4_t bits = vld1q_u32(item_bits);
        std::uint32_t mask = 0;
        for (int p = 0; p < 4; ++p) {
            const float32x4_t spread = vmulq_n_f32(items.residuals[p], lane.spread);
            const float32x4_t upper = vfmaq_f32(spread, items.steps[p], vcvtq_f32_s32(sums.part[p]));
            const uint32x4_t over = vcgtq_f32(upper, vdupq_n_f32(lane.cut));
            mask |= vaddvq_u32(vandq_u32(over, bits)) << (4 * p);
        }
        return mask;
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        for (int p = 0; p < 4; ++p) {
            const float32x4_t spread = vmulq_n_f32(items.residuals[p], lane.spread);
            const float32x4_t dots = vcvtq_f32_s32(sums.part[p]);
            vst1q_f32(upper + 4 * p, vfmaq_f32(spread, items.steps[p], dots));
            vst1q_f32(lower + 4 * p, vfmaq_f32(vnegq_f32(spread), items.steps[p], dots));
        }
        pack(mask, first, upper, lower, ids);
    }
};

}  // namespace

ScanKernels scan_kernels_neon() {
    return {{scan<Neon, 1, 1>, scan<Neon, 2, 1>, scan<Neon, 3, 1>},
            {scan_halves<Neon, 1, 2>, scan_halves<Neon, 2, 1>, scan_halves<Neon, 3, 1>},
            scan<Neon, 4, 1>,
            scan_halves<Neon, 4, 1>,
            4,
            refine};
}

}  // namespace mtaw
