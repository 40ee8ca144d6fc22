#include <bit>

#include "scan/kernel_body.hpp"

namespace mtaw {
namespace {

struct Portable {
    static constexpr bool kPackAlways = false;

    struct Sums {
        std::int32_t values[kBlockItems];
    };
    struct Line {
        std::uint8_t codes[kLineBytes];
    };
    using Words = const std::int16_t*;
    struct Items {
        float steps[kBlockItems];
        float residuals[kBlockItems];
    };

    // Sum (c + 128) a = c.a + 128 sum a.
    static MTAW_INLINE Sums start(const ScanLane& lane) {
        Sums sums;
        for (std::int32_t& sum : sums.values) sum = -128 * lane.code_sum;
        return sums;
    }
    static MTAW_INLINE Sums zero() { return Sums{}; }
    static MTAW_INLINE Sums add(const Sums& a, const Sums& b) {
        Sums sums;
        for (int item = 0; item < kBlockItems; ++item) sums.values[item] = a.values[item] + b.values[item];
        return sums;
    }
    static MTAW_INLINE Sums double_plus(const Sums& sums, std::int32_t bias) {
        Sums twice;
        for (int item = 0; item < kBlockItems; ++item) twice.values[item] = 2 * sums.values[item] + bias;
        return twice;
    }
    static MTAW_INLINE Line load_line(const std::uint8_t* address) {
        Line line;
        std::memcpy(line.codes, address, kLineBytes);
        return line;
    }
    static MTAW_INLINE void load_halves(const std::uint8_t* address, Line& low, Line& high) {
        for (int i = 0; i < kLineBytes; ++i) {
            low.codes[i] = address[i] & 15;
            high.codes[i] = address[i] >> 4;
        }
    }
    static MTAW_INLINE Words load_words(const ScanLane& lane, std::int64_t line) {
        return lane.pairs + line * kLineDims;
    }
    static MTAW_INLINE void add_products(Sums& sums, const Line& line, const Words& words) {
        for (int item = 0; item < kBlockItems; ++item) {
            const std::uint8_t* codes = line.codes + item * kLineDims;
            sums.values[item] += codes[0] * words[0] + codes[2] * words[1] + codes[1] * words[2] + codes[3] * words[3];
        }
    }
    static MTAW_INLINE Items load_items(const std::uint8_t* address) {
        Items items;
        for (int item = 0; item < kBlockItems; ++item) {
            std::uint32_t word;
            std::memcpy(&word, address + 4 * item, 4);
            items.steps[item] = std::bit_cast<float>(word & 0xFFFF0000U);
            items.residuals[item] = std::bit_cast<float>(word << 16);
        }
        return items;
    }
    static MTAW_INLINE std::uint32_t above_cut(const Sums& sums, const Items& items, const ScanLane& lane) {
        std::uint32_t mask = 0;
        for (int item = 0; item < kBlockItems; ++item) {
            const float upper =
                items.steps[item] * static_cast<float>(sums.values[item]) + lane.spread * items.residuals[item];
            mask |= static_cast<std::uint32_t>(upper > lane.cut) << item;
        }
        return mask;
    }
    static MTAW_INLINE void store_bounds(const Sums& sums, const Items& items, const ScanLane& lane, std::uint32_t mask,
                                         std::int32_t first, float* upper, float* lower, std::int32_t* ids) {
        for (int item = 0; item < kBlockItems; ++item) {
            const float spread = lane.spread * items.residuals[item];
            const float estimate = items.steps[item] * static_cast<float>(sums.values[item]);
            upper[item] = estimate + spread;
            lower[item] = estimate - spread;
        }
        pack(mask, first, upper, lower, ids);
    }
};

}  // namespace

ScanKernels scan_kernels_portable() {
    return {{scan<Portable, 1, 1>, scan<Portable, 2, 1>, scan<Portable, 3, 1>},
            {scan_halves<Portable, 1, 2>, scan_halves<Portable, 2, 1>, scan_halves<Portable, 3, 1>},
            scan<Portable, 1, 1>,
            scan_halves<Portable, 1, 1>,
            1,
            refine};
}

}  // namespace mtaw
