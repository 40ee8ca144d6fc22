#include <wasm_simd128.h>

#include "scan/kernel_body.hpp"

namespace mtaw {
namespace {

// A block is four registers of 4 items. Bytes are widened to 16 bits, even and odd ones apart, so that each product of
// pairs is one item's.
struct Wasm {
    static constexpr bool kPackAlways = false;
    static constexpr int kParts = 4, kItems = 4;

    struct Sums {
        v128_t values[kParts];
    };
    struct Line {
        v128_t even[kParts], odd[kParts];
    };
    struct Words {
        v128_t even, odd;
    };
    struct Items {
        v128_t steps[kParts], residuals[kParts];
    };

    // Sum (c + 128) a = c.a + 128 sum a.
    static MTAW_INLINE Sums start(const ScanLane& lane) {
        const v128_t bias = wasm_i32x4_splat(-128 * lane.code_sum);
        return {{bias, bias, bias, bias}};
    }
    static MTAW_INLINE Sums zero() { return Sums{}; }
    static MTAW_INLINE Sums add(const Sums& a, const Sums& b) {
        Sums sums;
        for (int h = 0; h < kParts; ++h) sums.values[h] = wasm_i32x4_add(a.values[h], b.values[h]);
        return sums;
    }
    static MTAW_INLINE Sums double_plus(const Sums& sums, std::int32_t bias) {
        const v128_t biases = wasm_i32x4_splat(bias);
        return add(add(sums, sums), {{biases, biases, biases, biases}});
    }
    static MTAW_INLINE Line load_line(const std::uint8_t* address) {
        Line line;
        for (int h = 0; h < kParts; ++h) {
            const v128_t codes = wasm_v128_load(address + 16 * h);
            line.even[h] = wasm_v128_and(codes, wasm_i16x8_const_splat(0xFF));
            line.odd[h] = wasm_u16x8_shr(codes, 8);
        }
        return line;
    }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        const v128_t mask = wasm_i16x8_const_splat(15);
        for (int h = 0; h < kParts; ++h) {
            const v128_t halves = wasm_v128_load(address + 16 * h);
            low.even[h] = wasm_v128_and(halves, mask);
            low.odd[h] = wasm_v128_and(wasm_u16x8_shr(halves, 8), mask);
            high.even[h] = wasm_v128_and(wasm_u16x8_shr(halves, 4), mask);
            high.odd[h] = wasm_u16x8_shr(halves, 12);
        }
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        const std::int16_t* const words = lane.pairs + line * kLineDims;
        return {wasm_v128_load32_splat(words), wasm_v128_load32_splat(words + 2)};
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        for (int h = 0; h < kParts; ++h) {
            sums.values[h] = wasm_i32x4_add(sums.values[h], wasm_i32x4_dot_i16x8(line.even[h], words.even));
            sums.values[h] = wasm_i32x4_add(sums.values[h], wasm_i32x4_dot_i16x8(line.odd[h], words.odd));
        }
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        Items items;
        for (int h = 0; h < kParts; ++h) {
            const v128_t words = wasm_v128_load(address + 16 * h);
            items.steps[h] = wasm_v128_and(words, wasm_u32x4_const_splat(0xFFFF0000U));
            items.residuals[h] = wasm_i32x4_shl(words, 16);
        }
        return items;
    }
    static MTAW_INLINE std::uint32_t above_cut(const Sums& sums, const Items& items, const ScanLane& lane) {
        std::uint32_t mask = 0;
        for (int h = 0; h < kParts; ++h) {
            const v128_t over = wasm_f32x4_gt(wasm_f32x4_add(estimate(sums, items, h), spread(items, lane, h)),
                                              wasm_f32x4_splat(lane.cut));
            mask |= wasm_i32x4_bitmask(over) << (kItems * h);
        }
        return mask;
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        for (int h = 0; h < kParts; ++h) {
            const v128_t middle = estimate(sums, items, h), wide = spread(items, lane, h);
            wasm_v128_store(upper + kItems * h, wasm_f32x4_add(middle, wide));
            wasm_v128_store(lower + kItems * h, wasm_f32x4_sub(middle, wide));
        }
        pack(mask, first, upper, lower, ids);
    }

   private:
    static MTAW_INLINE v128_t estimate(const Sums& sums, const Items& items, int h) {
        return wasm_f32x4_mul(items.steps[h], wasm_f32x4_convert_i32x4(sums.values[h]));
    }
    static MTAW_INLINE v128_t spread(const Items& items, const ScanLane& lane, int h) {
        return wasm_f32x4_mul(wasm_f32x4_splat(lane.spread), items.residuals[h]);
    }
};

}  // namespace

ScanKernels scan_kernels_wasm() {
    return {{scan<Wasm, 1, 1>, scan<Wasm, 2, 1>, scan<Wasm, 3, 1>},
            {scan_halves<Wasm, 1, 1>, scan_halves<Wasm, 2, 1>, scan_halves<Wasm, 3, 1>},
            scan<Wasm, 1, 1>,
            scan_halves<Wasm, 1, 1>,
            1,
            refine};
}

}  // namespace mtaw
