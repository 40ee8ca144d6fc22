// The kernels over a vector type V. Only the per-instruction-set files include this, each with a V of its own in an
// unnamed namespace: so no two of them share an instantiation.
//
// V gives: Reg, kLanes, kRows and kUnits (vectors of candidates and units of a tile of sums), Sixteen and its load,
// add_values, add_floats, transpose (16 rows of 16 floats into columns kTile apart), load, store, broadcast, add, sub,
// mul, div, root, fma, max, mantissa, power_of_two, count_at_least, list_taken,
// list_positive; with 16 lanes also pair_pre_scores and load_pair. OneByOne has the two before.
#pragma once

#include <cstdint>

#include "memory/features.hpp"
#include "memory/kernels.hpp"
#include "trends/features.hpp"

#define MTAW_MEMORY_UNROLL _Pragma("GCC unroll 16")

namespace mtaw {

// log on positive normal numbers: x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)), and Cephes' polynomial in f.
template <typename V>
MTAW_INLINE typename V::Reg log_of(typename V::Reg x) {
    using Reg = typename V::Reg;
    constexpr float kPowers[] = {7.0376836292e-2F,  -1.1514610310e-1F, 1.1676998740e-1F,
                                 -1.2420140846e-1F, 1.4249322787e-1F,  -1.6668057665e-1F,
                                 2.0000714765e-1F,  -2.4999993993e-1F, 3.3333331174e-1F};
    Reg exponent;
    const Reg f = V::sub(V::mantissa(x, &exponent), V::broadcast(1.0F));
    Reg power = V::broadcast(kPowers[0]);
    MTAW_MEMORY_UNROLL
    for (int k = 1; k < 9; ++k) power = V::fma(power, f, V::broadcast(kPowers[k]));
    const Reg square = V::mul(f, f);
    Reg rest = V::mul(V::mul(power, f), square);
    rest = V::fma(exponent, V::broadcast(-2.12194440e-4F), rest);  // ln 2 = 0.693359375 - 2.1219444e-4
    rest = V::fma(square, V::broadcast(-0.5F), rest);
    return V::fma(exponent, V::broadcast(0.693359375F), V::add(f, rest));
}

// exp on [-86, 0], and exp(-86) under it: 2^(n + f) with f in [-1/2, 1/2].
template <typename V>
MTAW_INLINE typename V::Reg exp_of(typename V::Reg x) {
    using Reg = typename V::Reg;
    constexpr float kPowers[] = {0x1.41d333a1fbff9p-13F, 0x1.5f456a867c735p-10F, 0x1.3b2dbbc0aa7a3p-7F,
                                 0x1.c6aed4b95c606p-5F,  0x1.ebfbdadcb136fp-3F,  0x1.62e430c7e91afp-1F,
                                 0x1.00000002614ffp+0F};
    const Reg log2_e = V::broadcast(1.44269504F), rounder = V::broadcast(0x1.8p+23F);
    const Reg bounded = V::max(x, V::broadcast(-86.0F));
    const Reg shifted = V::fma(bounded, log2_e, rounder);
    const Reg f = V::fma(bounded, log2_e, V::sub(rounder, shifted));
    Reg power = V::broadcast(kPowers[0]);
    MTAW_MEMORY_UNROLL
    for (int k = 1; k < 7; ++k) power = V::fma(power, f, V::broadcast(kPowers[k]));
    return V::mul(power, V::power_of_two(shifted));
}

template <typename V>
void add_row(const RowView& row, const float* coefficients, float near, Pool& shared) {
    Pool pool = shared;  // a local copy, which no store through its pointers can change
    const auto factors = V::load_sixteen(coefficients);
    for (std::int64_t p = 0; p < row.count; ++p) {
        const std::int32_t slot = slot_of_known(pool, row.neighbors[p]);
        V::add_values(row.values + p * kPairKinds, factors, sums_of(pool, slot));
        float* const signals = signals_of(pool, slot);
        const auto latest = static_cast<float>(row.latest[p] + 1);
        signals[kNear] = signals[kNear] > near ? signals[kNear] : near;
        signals[kLatest] = signals[kLatest] > latest ? signals[kLatest] : latest;
    }
    shared.count = pool.count;
}

template <typename V>
void add_delta_row(const DeltaRowView& row, const float* coefficients, float near, Pool& shared) {
    Pool pool = shared;
    const auto factors = V::load_sixteen(coefficients);
    for (std::int64_t p = 0; p < row.count; ++p) {
        const std::int32_t slot = slot_of_known(pool, row.neighbors[p]);
        V::add_floats(row.values + p * 8, factors, sums_of(pool, slot));
        float* const signals = signals_of(pool, slot);
        const auto latest = static_cast<float>(row.latest[p]);
        signals[kNear] = signals[kNear] > near ? signals[kNear] : near;
        signals[kLatest] = signals[kLatest] > latest ? signals[kLatest] : latest;
    }
    shared.count = pool.count;
}

template <typename V>
void exp_all(float* x, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += V::kLanes) V::store(x + i, exp_of<V>(V::load(x + i)));
}

template <typename V>
void log_all(float* x, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += V::kLanes) V::store(x + i, log_of<V>(V::load(x + i)));
}

template <typename V>
void inverse_root_all(float* x, std::int64_t count) {
    const typename V::Reg one = V::broadcast(1.0F);
    for (std::int64_t i = 0; i < count; i += V::kLanes) {
        V::store(x + i, V::div(one, V::root(V::add(V::load(x + i), one))));
    }
}

template <typename V>
void add_scaled(float* out, const float* x, float factor, std::int64_t count) {
    const typename V::Reg scale = V::broadcast(factor);
    for (std::int64_t i = 0; i < count; i += V::kLanes) {
        V::store(out + i, V::fma(scale, V::load(x + i), V::load(out + i)));
    }
}

// A column of lanes, as the formulas of features.hpp index it.
template <typename V>
struct Lanes {
    const float* first;
    MTAW_INLINE typename V::Reg operator[](int lane) const { return V::load(first + lane * kTile); }
};

template <typename V>
void fill(const TileInput& input) {
    alignas(64) float sums[kSumLanes * kTile], signal_columns[kSignalLanes * kTile];
    for (std::int64_t i = 0; i < input.count; i += 16) {
        const float* rows[16];
        for (int r = 0; r < 16; ++r) rows[r] = sums_of(*input.pool, input.slots[i + r]);
        V::transpose(rows, sums + i);
        for (int r = 0; r < 16; ++r) rows[r] = signals_of(*input.pool, input.slots[i + r]);
        V::transpose(rows, signal_columns + i);
    }
    const QueryFacts& query = *input.facts;
    for (std::int64_t i = 0; i < input.count; i += V::kLanes) {
        const Lanes<V> sum{sums + i}, signals{signal_columns + i}, counts{input.counts + i};
        float* column = input.columns + i;
#define MTAW_FILL(name, rule, shift, x) \
    V::store(column, x);                \
    column += kTile;
        MTAW_CANDIDATE_FEATURES(MTAW_FILL)
#undef MTAW_FILL
    }
}

template <typename V>
void fill_trends(const TrendTile& tile) {
    using Reg = typename V::Reg;
    alignas(64) float sums[2 * 16 * kTile], items[16 * kTile];
    for (std::int64_t i = 0; i < tile.count; i += 16) {
        const float* rows[16];
        const auto row_index = [&](int r) { return i + r < tile.count ? i + r : 0; };
        for (int r = 0; r < 16; ++r) rows[r] = tile.sums[row_index(r)].values;
        V::transpose(rows, sums + i);
        for (int r = 0; r < 16; ++r) rows[r] += 16;
        V::transpose(rows, sums + 16 * kTile + i);
        for (int r = 0; r < 16; ++r) rows[r] = tile.items[row_index(r)].values;
        V::transpose(rows, items + i);
    }
    const TrendFacts& query = *tile.facts;
    for (std::int64_t i = 0; i < (tile.count + 15) / 16 * 16; i += V::kLanes) {
        const Lanes<V> all{items + i}, later{items + kItemLanes * kTile + i};
        const Lanes<V> fwd{sums + TrendSums::kLast * kTile + i},
            bwd{sums + (TrendSums::kLast + kPairLanes) * kTile + i};
        const Lanes<V> fwd_own{sums + TrendSums::kOwnRows * kTile + i},
            bwd_own{sums + (TrendSums::kOwnRows + kPairLanes) * kTile + i};
        const Reg first = all[TrendItem::kFirst], last = all[TrendItem::kLast];
        const Reg pre = fwd_own[TrendSums::kPreScore - TrendSums::kOwnRows] +
                        (0.8F * later[kTrendQuarter] * query.per_later[kTrendQuarter] +
                         0.3F * all[kTrendHour] * query.per_all[kTrendHour]);
        Reg prior[kPairLanes];
        for (int lane = 0; lane < kPairLanes; ++lane) {
            prior[lane] = (later[kFirstPairLane + lane] + 0.02F) * query.prior_scale[lane];
        }
        float* column = tile.columns + i;
#define MTAW_FILL(name, rule, shift, x) \
    V::store(column, x);                \
    column += kTile;
        MTAW_TREND_CANDIDATE_FEATURES(MTAW_FILL)
#undef MTAW_FILL
    }
}

template <typename V>
void add_pre_scores(const TrendPairs& pairs, const float* factors, float* scores, std::uint8_t* marks) {
    for (std::int64_t begin = 0; begin < pairs.count; begin += 16) {
        const std::int64_t count = pairs.count - begin < 16 ? pairs.count - begin : 16;
        const std::uint16_t* const values = pairs.values + begin * kPairSums;
        for (int line = 0; line < 5; ++line) MTAW_PREFETCH(values + 64 * kPairSums + 32 * line);
        float added[16];
        if constexpr (V::kLanes == 16) {
            V::pair_pre_scores(values, count, factors, added);
        } else {
            for (std::int64_t i = 0; i < count; ++i) {
                float wide[kPairSums];
                widen(values + i * kPairSums, wide);
                added[i] = pair_pre_score(wide, factors);
            }
        }
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int32_t item = pairs.neighbors[begin + i];
            scores[item] += added[i];
            marks[item >> kBlockBits] = 1;
        }
    }
}

template <typename V>
std::int64_t list_scored(const std::uint8_t* marks, std::int64_t n_blocks, const float* scores, const float* popular,
                         std::int32_t* ids, std::int32_t* keys) {
    std::int64_t found = 0;
    for (std::int64_t word = 0; word < n_blocks; word += kMarkWord) {
        std::uint64_t rest;
        __builtin_memcpy(&rest, marks + word, sizeof rest);
        for (; rest != 0; rest &= rest - 1) {
            const std::int64_t item = (word + __builtin_ctzll(rest) / 8) << kBlockBits;
            found += V::list_positive(scores + item, popular + item, static_cast<std::int32_t>(item), ids + found,
                                      keys + found);
        }
    }
    return found;
}

template <typename V>
void add_trend_pairs(const TrendPairs& pairs, const std::int32_t* matches, std::int64_t n_matches,
                     const std::int32_t* slot_plus_one, const float* decay, float weight, bool is_last,
                     TrendSums* sums) {
    for (std::int64_t m = 0; m < n_matches; ++m) {
        const std::int64_t p = matches[m];
        float* const to = sums[slot_plus_one[pairs.neighbors[p]] - 1].values;
        const std::uint16_t* const values = pairs.values + p * kPairSums;
        if constexpr (V::kLanes == 16) {
            const auto decayed = V::load_pair(values) * V::load(decay);
            V::store(to, V::load(to) + V::broadcast(weight) * decayed);
            if (is_last) V::store(to + TrendSums::kLast, V::load(to + TrendSums::kLast) + decayed);
        } else {
            float decayed[kPairSums];
            widen(values, decayed);
            for (int k = 0; k < kPairSums; ++k) {
                decayed[k] *= decay[k];
                to[TrendSums::kOwnRows + k] += weight * decayed[k];
            }
            for (int k = 0; is_last && k < kPairSums; ++k) to[TrendSums::kLast + k] += decayed[k];
        }
    }
}

// What V gives for its 16 lanes at once, one by one.
struct OneByOne {
    static std::int64_t list_taken(const std::int32_t* keys, const std::int32_t* items, std::int64_t count,
                                   std::int32_t lowest, std::int32_t last, std::int32_t first, std::int32_t* out) {
        std::int64_t n = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            out[n] = first + static_cast<std::int32_t>(i);
            n += (keys[i] > lowest ? 1 : 0) | ((keys[i] == lowest ? 1 : 0) & (items[i] <= last ? 1 : 0));
        }
        return n;
    }
    static MTAW_INLINE std::int64_t list_positive(const float* scores, const float* popular, std::int32_t first,
                                                  std::int32_t* ids, std::int32_t* keys) {
        std::int64_t n = 0;
        for (std::int32_t i = 0; i < kBlock; ++i) {
            const float score = scores[i] + popular[i];
            ids[n] = first + i;
            __builtin_memcpy(keys + n, &score, sizeof score);
            n += score > 0 ? 1 : 0;
        }
        return n;
    }
};

template <typename V>
void transform(float* columns, const ColumnRule* rules, std::int64_t n_columns, std::int64_t count) {
    for (std::int64_t k = 0; k < n_columns; ++k) {
        if (!rules[k].log) continue;
        const typename V::Reg shift = V::broadcast(rules[k].shift);
        float* const column = columns + k * kTile;
        for (std::int64_t i = 0; i < count; i += V::kLanes) {
            V::store(column + i, log_of<V>(V::add(V::load(column + i), shift)));
        }
    }
}

// U units (`weights`: their part of a panel) of R vectors of candidates.
template <typename V, int R, int U>
struct Sums {
    typename V::Reg sum[U][R];

    MTAW_INLINE void start(const float* from) {
        MTAW_MEMORY_UNROLL
        for (int u = 0; u < U; ++u) {
            MTAW_MEMORY_UNROLL
            for (int r = 0; r < R; ++r) sum[u][r] = V::broadcast(from[u]);
        }
    }
    MTAW_INLINE void add(const float* x, const float* weights, std::int64_t depth) {
        for (std::int64_t k = 0; k < depth; ++k, x += kTile, weights += kPanel) {
            typename V::Reg inputs[R];
            MTAW_MEMORY_UNROLL
            for (int r = 0; r < R; ++r) inputs[r] = V::load(x + r * V::kLanes);
            MTAW_MEMORY_UNROLL
            for (int u = 0; u < U; ++u) {
                const typename V::Reg weight = V::broadcast(weights[u]);
                MTAW_MEMORY_UNROLL
                for (int r = 0; r < R; ++r) sum[u][r] = V::fma(inputs[r], weight, sum[u][r]);
            }
        }
    }
};

// The rows first .. end of those ahead.
static MTAW_INLINE void fetch_ahead(const RowsAhead& ahead, std::int64_t first, std::int64_t end) {
    constexpr std::int64_t kLineFloats = 16;
    for (std::int64_t i = first; i < end; ++i) {
        for (std::int64_t j = 0; j < ahead.floats; j += kLineFloats) MTAW_PREFETCH_L2(ahead.rows[i] + j);
        MTAW_PREFETCH_L2(ahead.rows[i] + ahead.floats - 1);
    }
}

// R vectors of candidates, the first at `begin`.
template <typename V, int R>
void forward_some(const ForwardPass& pass, std::int64_t begin) {
    using Reg = typename V::Reg;
    constexpr int U = V::kUnits;
    const Reg zero = V::broadcast(0.0F);
    const float* const columns = pass.columns + begin;
    float* const hidden = pass.hidden + begin;
    for (std::int64_t unit = 0; unit < pass.n1; unit += U) {
        if (begin == 0) {
            fetch_ahead(pass.ahead, pass.ahead.count * unit / pass.n1, pass.ahead.count * (unit + U) / pass.n1);
        }
        Sums<V, R, U> sums;
        sums.start(pass.start + unit);
        const std::int64_t panel = unit / kPanel, within = unit % kPanel;
        sums.add(columns, pass.panels1 + panel * pass.all_columns * kPanel + within, pass.depth);
        MTAW_MEMORY_UNROLL
        for (int u = 0; u < U; ++u) {
            MTAW_MEMORY_UNROLL
            for (int r = 0; r < R; ++r) {
                V::store(hidden + (unit + u) * kTile + r * V::kLanes, V::max(sums.sum[u][r], zero));
            }
        }
    }
    Reg score[R];
    MTAW_MEMORY_UNROLL
    for (int r = 0; r < R; ++r) score[r] = V::broadcast(pass.start[pass.n1]);
    for (std::int64_t k = 0; k < pass.depth; ++k) {
        const Reg weight = V::broadcast(pass.linear[k]);
        MTAW_MEMORY_UNROLL
        for (int r = 0; r < R; ++r) score[r] = V::fma(V::load(columns + k * kTile + r * V::kLanes), weight, score[r]);
    }
    for (std::int64_t unit = 0; unit < pass.n2; unit += U) {
        Sums<V, R, U> sums;
        sums.start(pass.bias2 + unit);
        const std::int64_t panel = unit / kPanel, within = unit % kPanel;
        sums.add(hidden, pass.panels2 + panel * pass.n1 * kPanel + within, pass.n1);
        MTAW_MEMORY_UNROLL
        for (int u = 0; u < U; ++u) {
            const Reg weight = V::broadcast(pass.output[unit + u]);
            MTAW_MEMORY_UNROLL
            for (int r = 0; r < R; ++r) score[r] = V::fma(V::max(sums.sum[u][r], zero), weight, score[r]);
        }
    }
    MTAW_MEMORY_UNROLL
    for (int r = 0; r < R; ++r) V::store(pass.scores + begin + r * V::kLanes, score[r]);
}

template <typename V>
void forward(const ForwardPass& pass, std::int64_t count) {
    std::int64_t begin = 0;
    for (; begin + (V::kRows - 1) * V::kLanes < count; begin += V::kRows * V::kLanes) {
        forward_some<V, V::kRows>(pass, begin);
    }
    if constexpr (V::kRows > 2) {
        if (begin + V::kLanes < count) {
            forward_some<V, 2>(pass, begin);
            begin += 2 * V::kLanes;
        }
    }
    if (begin < count) forward_some<V, 1>(pass, begin);
}

template <typename V>
constexpr MemoryKernels memory_kernels_of() {
    return {{V::count_at_least, V::list_taken, exp_all<V>, log_all<V>, inverse_root_all<V>, add_scaled<V>, transform<V>,
             fill_trends<V>, add_pre_scores<V>, list_scored<V>, add_trend_pairs<V>},
            add_row<V>,
            add_delta_row<V>,
            fill<V>,
            forward<V>};
}

}  // namespace mtaw
