// The float32 Format of tiles.hpp on top of the floats of an instruction set.
#pragma once

#include "loss/negative_tiles.hpp"

namespace mtaw {
namespace {

template <typename Floats>
struct FloatFormat : Floats {
    using Element = float;
    using Vec = typename Floats::Vec;
    using Operand = Vec;
    static constexpr int kPair = 1;

    static Operand broadcast(const Element* p) { return Floats::set(*p); }
    static Operand load_operand(const Element* p) { return Floats::load(p); }
    static Vec dot(Vec acc, Operand a, Operand b) { return Floats::multiply_add(a, b, acc); }
    static Vec load_exps(const Element* p) { return Floats::load(p); }

    // With groups of one both layouts of the exponentials are the same.
    template <int M, int V>
    static void store_exps(const Vec (&exps)[M][V], const ExpTile& tile, std::int64_t item) {
        if (tile.kept == nullptr) return;
        float* out = static_cast<float*>(tile.kept) + item * tile.block_rows;
        MTAW_UNROLL
        for (int i = 0; i < M; ++i) {
            MTAW_UNROLL
            for (int v = 0; v < V; ++v) Floats::store(out + (i * V + v) * Floats::kLanes, exps[i][v]);
        }
    }
};

template <typename Floats>
void pack_float_items(const PackItems& pack) {
    auto* out = static_cast<float*>(pack.by_item);
    for (std::int64_t item = 0; item < pack.padded; ++item, out += pack.width) {
        if (item >= pack.valid) {
            for (std::int64_t k = 0; k < pack.width; ++k) out[k] = 0.0F;
            continue;
        }
        const float* vector = pack.items + item * pack.d;
        const float inverse = inverse_norm<Floats>(vector, pack.d);
        pack.inverse_norms[item] = inverse;
        for (std::int64_t k = 0; k < pack.d; ++k) out[k] = vector[k] * inverse;
    }
}

}  // namespace
}  // namespace mtaw
