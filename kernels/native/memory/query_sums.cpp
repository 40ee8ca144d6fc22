// What the tables say of a query's items, summed up in the pool.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "compiler.hpp"
#include "memory/prefetch.hpp"
#include "memory/query.hpp"

namespace mtaw {
namespace {

float from_bfloat16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// What one own item's row adds to each lane, but for the value.
struct RowFactors {
    alignas(64) float lanes[kSumLanes];
};

RowFactors row_factors(const float* totals, std::int64_t place, float decayed, float even, float age, float root) {
    const auto share = [&](int kind) { return 1.0F / (totals[kind] + 1.0F); };
    const float last = place == 0 ? 1.0F : 0.0F, previous = place == 1 ? 1.0F : 0.0F;
    const float next = share(kNext), fwd = share(kFwd), ses = share(kSes);
    const float rec = age / (totals[kRec] * age + 1.0F);
    RowFactors factors{};
    factors.lanes[kNextLast] = last * next;
    factors.lanes[kNextDec] = decayed * next;
    factors.lanes[kFwdDec] = decayed * fwd;
    factors.lanes[kFwdLast] = last * fwd;
    factors.lanes[kFwdPrev] = previous * fwd;
    factors.lanes[kBwdDec] = decayed * share(kBwd);
    factors.lanes[kSesDec] = decayed * ses;
    factors.lanes[kSesAll] = even * ses;
    factors.lanes[kSesLast] = last * ses;
    factors.lanes[kCosDec] = decayed * root;
    factors.lanes[kCosAll] = even * root;
    factors.lanes[kRecDec] = decayed * rec;
    factors.lanes[kRecAll] = even * rec;
    factors.lanes[kAaDec] = decayed * share(kAa);
    factors.lanes[kReached] = 1.0F;
    return factors;
}

}  // namespace

// Everything lies far apart in memory: what all own items will need is on its way before the first is looked at.
void SessionMemory::prefetch_own(const OwnItems& own) const {
    for (std::int64_t u = 0; u < own.count; ++u) {
        const std::int64_t item = own.list[u].item;
        if (item >= memory_.n_items) continue;
        MTAW_PREFETCH(memory_.totals + item * kPairKinds);
        MTAW_PREFETCH(memory_.counts + item * kCountKinds);
        const std::int64_t begin = memory_.row_offsets[item], length = memory_.row_offsets[item + 1] - begin;
        prefetch(memory_.neighbours + begin, length);
        prefetch(memory_.latest + begin, length);
        prefetch(memory_.values + begin * kPairKinds, length * kPairKinds);
        const std::int64_t first = memory_.post_offsets[item];
        prefetch(memory_.postings + first, memory_.post_offsets[item + 1] - first);
    }
}

void SessionMemory::add_neighbours(MemoryScratch& scratch) const {
    const OwnItems& own = scratch.own_;
    prefetch_own(own);
    const auto known = [&](std::int64_t u) { return own.list[u].item < memory_.n_items; };
    float ages[kMaxOwn + kPadding], roots[kMaxOwn + kPadding];
    for (std::int64_t u = 0; u < own.count; ++u) {
        ages[u] = roots[u] = 0;
        if (!known(u)) continue;
        const std::int64_t item = own.list[u].item;
        const std::int64_t age = memory_.n_sessions - 1 - memory_.counts[item * kCountKinds + kNewest];
        ages[u] = static_cast<float>(-static_cast<double>(age) / memory_.recency);
        roots[u] = memory_.totals[item * kPairKinds + kSes];
    }
    std::fill(ages + own.count, ages + own.count + kPadding, 0.0F);
    std::fill(roots + own.count, roots + own.count + kPadding, 0.0F);
    kernels_->exp(ages, own.count);
    kernels_->inverse_root(roots, own.count);
    const float even = 1.0F / static_cast<float>(own.count);
    for (std::int64_t u = 0; u < own.count; ++u) {
        if (!known(u)) continue;
        const std::int64_t item = own.list[u].item;
        const float near = 1.0F / (1.0F + static_cast<float>(own.list[u].back));
        const RowFactors factors = row_factors(memory_.totals + item * kPairKinds, u, own.list[u].decayed, even,
                                               ages[u], roots[u]);
        kernels_->add_row(memory_, item, factors.lanes, near, scratch.pool_);
        if (u == 0) {
            for (std::int64_t p = memory_.row_offsets[item]; p < strong_end(item); ++p) {
                MTAW_PREFETCH(memory_.row_offsets + memory_.neighbours[p]);
                MTAW_PREFETCH(memory_.totals + std::int64_t{memory_.neighbours[p]} * kPairKinds);
            }
        }
    }
    if (!known(0)) return;
    const std::int64_t last = own.list[0].item;
    for (std::int64_t p = memory_.row_offsets[last]; p < strong_end(last); ++p) {
        const std::int64_t begin = memory_.row_offsets[memory_.neighbours[p]];
        const std::int64_t length = strong_end(memory_.neighbours[p]) - begin;
        prefetch(memory_.neighbours + begin, length);
        prefetch(memory_.values + begin * kPairKinds, length * kPairKinds);
    }
}

// Where the strongest neighbours of a row end.
std::int64_t SessionMemory::strong_end(std::int64_t row) const {
    return std::min(memory_.row_offsets[row + 1], memory_.row_offsets[row] + kStrong);
}

void SessionMemory::add_second(MemoryScratch& scratch) const {
    const std::int64_t item = scratch.own_.list[0].item;
    if (item >= memory_.n_items) return;
    const auto fwd_of = [&](std::int64_t p) { return from_bfloat16(memory_.values[p * kPairKinds + kFwd]); };
    const auto share_of = [&](std::int64_t row) { return 1.0F / (memory_.totals[row * kPairKinds + kFwd] + 1.0F); };
    const float share = share_of(item);
    for (std::int64_t p = memory_.row_offsets[item]; p < strong_end(item); ++p) {
        const std::int64_t middle = memory_.neighbours[p];
        const float first = fwd_of(p) * share;
        if (first == 0) continue;
        const float through = first * share_of(middle);
        for (std::int64_t r = memory_.row_offsets[middle]; r < strong_end(middle); ++r) {
            const std::int32_t slot = slot_of_known(scratch.pool_, memory_.neighbours[r]);
            more_of(scratch.pool_, slot)[kSecond] += fwd_of(r) * through;
        }
    }
}

void SessionMemory::add_dense(const MemoryRequest& request, MemoryScratch& scratch) const {
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense); ++i) {
        if (request.dense[i] < 0) break;
        const std::int32_t slot = slot_of(scratch.pool_, request.dense[i]);
        float* const more = more_of(scratch.pool_, slot);
        more[kDenseLead] = static_cast<float>(settings_.dense - i);
        more[kLogit] = request.logits[i];
    }
}

void SessionMemory::state_facts(const MemoryRequest& request, MemoryScratch& scratch) const {
    QueryFacts& facts = scratch.facts_;
    const OwnItems& own = scratch.own_;
    const std::int64_t last = own.list[0].item;
    const std::int32_t sessions = last < memory_.n_items ? memory_.counts[last * kCountKinds + kSessions] : 0;
    facts.clicks = static_cast<float>(own.clicks);
    facts.distinct = static_cast<float>(own.count);
    facts.streak = static_cast<float>(own.streak);
    facts.last_sessions = static_cast<float>(sessions);
    facts.sessions = static_cast<float>(memory_.n_sessions);
    facts.after = static_cast<float>(memory_.n_sessions + 1);
    facts.per_session = 1.0F / facts.after;
    for (int lane = kKnn; lane <= kKnnNext; ++lane) {
        // Under the normal numbers the inverse may be infinite, and the share of what has none would be NaN.
        const bool normal = facts.largest[lane] >= std::numeric_limits<float>::min();
        facts.inverse[lane] = normal ? 1.0F / facts.largest[lane] : 0.0F;
    }
    facts.best_logit = is_neural(request) && request.n_dense > 0 && request.dense[0] >= 0 ? request.logits[0] : 0.0F;
    facts.outside = is_neural(request) ? static_cast<float>(settings_.dense) : 0.0F;
}

// The logits that the dense list did not bring.
void SessionMemory::add_logits(const std::int32_t* slots, std::int64_t count, const float* query,
                               const ItemVectors& vectors, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto score_missing = [&](bool added) {
        std::vector<Scored>& missing = scratch.missing_;
        missing.clear();
        const auto is_missing = [&](std::int32_t slot) {
            return more_of(pool, slot)[kDenseLead] == 0 && (pool.items[slot] >= vectors.n) == added;
        };
        const std::int64_t base = added ? vectors.n : 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) missing.push_back({0.0F, static_cast<std::int32_t>(pool.items[slots[i]] - base)});
        }
        score_items(query, added ? vectors.added : vectors.rows, vectors.d, vectors.scale, missing.data(),
                    static_cast<std::int64_t>(missing.size()), isa_);
        std::size_t next = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) more_of(pool, slots[i])[kLogit] = missing[next++].score;
        }
    };
    score_missing(false);
    if (vectors.added != nullptr) score_missing(true);
}

}  // namespace mtaw
