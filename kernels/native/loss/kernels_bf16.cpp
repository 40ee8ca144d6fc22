// AVX-512 BF16: products of bfloat16 pairs, accumulated in float32.
#include "loss/bf16_items.hpp"
#include "loss/negative_tiles.hpp"
#include "loss/vector_avx512.hpp"

namespace mtaw {
namespace {

struct Bf16 : Avx512Floats {
    using Element = std::uint16_t;
    using Operand = __m512bh;
    static constexpr int kPair = 2;

    static Operand broadcast(const Element* p) {
        std::int32_t both = 0;
        __builtin_memcpy(&both, p, sizeof both);
        return reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
    }
    static Operand load_operand(const Element* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
    static Vec dot(Vec acc, Operand a, Operand b) { return _mm512_dpbf16_ps(acc, a, b); }
    static Vec load_exps(const Element* p) { return load_bf16(p); }
    static Vec exp2(Vec x, Vec factor) { return exp2_by<kExp2ShortDegree>(kExp2Short, x, factor); }

    template <int M, int V>
    static void store_exps(const Vec (&exps)[M][V], const ExpTile& tile, std::int64_t item) {
        store_bf16_exps(exps, tile, item);
    }
};

void pack_items(const PackItems& pack) {
    for (std::int64_t item = 0; item < pack.padded; item += 2) {
        PairOfItems two;
        two.open<Bf16>(pack, item);
        for (std::int64_t k = 0; k < pack.width; k += 16) {
            const __m512i pairs = two.pack(k);
            if (pack.by_dim == nullptr) continue;
            auto* out = static_cast<std::uint16_t*>(pack.by_dim) + item * pack.padded_d;
            _mm512_mask_storeu_epi32(out + 2 * k, first_lanes(pack.padded_d - k), pairs);
        }
    }
}

}  // namespace

const LossKernels kLossBf16 = kernels_of<Bf16>(pack_items);

}  // namespace mtaw
