// Chooses the candidates from the pool, and orders them by score.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "compiler.hpp"
#include "memory/query.hpp"
#include "kth_largest.hpp"

namespace mtaw {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Added to quick scores: those that are nearly 0, as after weeks, are equal then.
constexpr float kQuickOffset = 1e-4F;

}  // namespace

// The pre-score of every slot, as bits: those of positive numbers have their order.
void SessionMemory::weigh(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    float* const roots = scratch.roots_.data();
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        roots[slot] = merged_.ses(pool.items[slot]);
    }
    for (std::int64_t u = 0; scratch.current_.found() && u < scratch.own_.count; ++u) {
        roots[u] = total_without(roots[u], kSes, own_evidence_of(scratch, u));
    }
    std::fill(roots + pool.count, roots + pool.count + kPadding, 0.0F);
    kernels_->inverse_root(roots, pool.count);
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        float* const more = more_of(pool, slot);
        more[kRoot] = roots[slot];
        const float score = more[kPre] = pre_score(sums_of(pool, slot), more, scratch.facts_);
        scratch.keys_[static_cast<std::size_t>(slot)] = std::bit_cast<std::int32_t>(score);
    }
    constexpr std::int32_t kBanned = std::numeric_limits<std::int32_t>::min();
    if (request.allowed != nullptr || request.n_items < bounds_.catalog) {
        for (std::int32_t slot = 0; slot < pool.count; ++slot) {
            const std::int32_t item = pool.items[slot];
            const bool fine = item < request.n_items &&
                              (request.allowed == nullptr || (request.allowed[item >> 3] >> (item & 7) & 1) != 0);
            if (!fine) scratch.keys_[static_cast<std::size_t>(slot)] = kBanned;
        }
    }
    for (std::int64_t i = 0; i < request.n_excluded; ++i) {
        if (request.excluded[i] < 0 || request.excluded[i] >= bounds_.catalog) continue;
        const std::int32_t place = pool.place[request.excluded[i]];
        if (place != 0) scratch.keys_[static_cast<std::size_t>(place) - 1] = kBanned;
    }
}

void SessionMemory::choose(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto n_own = static_cast<std::int32_t>(scratch.own_.count);
    std::int32_t* const keys = scratch.keys_.get();
    const std::int32_t n_others = pool.count - n_own;
    std::vector<std::int32_t>& chosen = scratch.candidates_;
    chosen.resize(static_cast<std::size_t>(pool.count) + 1);  // a place is written before it is known to count
    KeyCut cut{0};
    if (kernels_->count_at_least(keys + n_own, n_others, 0) > settings_.others) {
        const auto item_of = [&](std::int32_t i) { return pool.items[n_own + i]; };
        cut = cut_of(*kernels_, keys + n_own, n_others, settings_.others, 0, item_of, chosen.data());
    }
    constexpr std::int32_t kListed = std::numeric_limits<std::int32_t>::max(), kTaken = -1;
    for (const std::int32_t item : scratch.trending_) {
        const std::int32_t slot = pool.place[item] - 1;
        if (keys[slot] >= 0) keys[slot] = kListed;
    }
    std::int32_t* next = chosen.data();
    for (std::int32_t slot = 0; slot < n_own; ++slot) {
        if (keys[slot] >= 0) *next++ = slot;
    }
    // The dense ones before the rest: their logits are known, those of the rest can come from memory meanwhile.
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense) && request.dense[i] >= 0; ++i) {
        const std::int32_t slot = pool.place[request.dense[i]] - 1;
        if (slot >= n_own && keys[slot] >= 0) {
            *next++ = slot;
            keys[slot] = kTaken;
        }
    }
    for (std::int32_t slot = n_own; slot < pool.count; ++slot) {
        *next = slot;
        next += cut.takes(keys[slot], pool.items[slot]) ? 1 : 0;
    }
    chosen.resize(static_cast<std::size_t>(next - chosen.data()));
}

void SessionMemory::keep_ranked(const MemoryRequest& request, std::int64_t k, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    std::vector<std::int32_t>& slots = scratch.candidates_;
    const auto count = static_cast<std::int64_t>(slots.size());
    std::int64_t n_own = 0;  // they come first
    while (n_own < count && slots[static_cast<std::size_t>(n_own)] < scratch.own_.count) ++n_own;
    const std::int64_t n_others = count - n_own;
    if (n_others <= settings_.ranked) return;
    const float per_dense = 1.0F / static_cast<float>(std::max<std::int64_t>(settings_.dense, 1));
    std::int32_t* const keys = scratch.score_keys_.get();
    for (std::int64_t i = 0; i < n_others; ++i) {
        const float score = quick_score(more_of(pool, slots[static_cast<std::size_t>(n_own + i)]), scratch.facts_, per_dense);
        keys[i] = score >= 0 ? std::bit_cast<std::int32_t>(score + kQuickOffset) : 0;
    }
    const auto item_of = [&](std::int32_t i) { return pool.items[slots[static_cast<std::size_t>(n_own + i)]]; };
    const KeyCut cut = cut_of(*kernels_, keys, n_others, settings_.ranked, 0, item_of, scratch.ties_.get());
    const std::uint8_t* const always = request.always_ranked;
    const bool needs_left_out = k > n_own + settings_.ranked;
    auto kept = slots.begin() + n_own;
    for (std::int64_t i = 0; i < n_others; ++i) {
        const std::int32_t slot = slots[static_cast<std::size_t>(n_own + i)];
        const std::int32_t item = pool.items[slot];
        const bool is_kept = cut.takes(keys[i], item) || (always != nullptr && (always[item >> 3] >> (item & 7) & 1) != 0);
        if (!is_kept && needs_left_out) scratch.left_out_.push_back({std::bit_cast<float>(keys[i]), slot});
        *kept = slot;
        kept += is_kept ? 1 : 0;
    }
    slots.erase(kept, slots.end());
}

std::int64_t SessionMemory::rank_left_out(float lowest, std::int64_t k, std::int32_t* ids, float* scores,
                                          MemoryScratch& scratch) {
    std::vector<Scored>& left = scratch.left_out_;
    const std::int32_t* const items = scratch.pool_.items;
    std::sort(left.begin(), left.end(), [&](const Scored& a, const Scored& b) {
        return a.score != b.score ? a.score > b.score : items[a.id] < items[b.id];
    });
    const auto count = std::min(k, static_cast<std::int64_t>(left.size()));
    float before = lowest, quick_before = kInfinity;
    for (std::int64_t i = 0; i < count; ++i) {
        const auto [quick, slot] = left[static_cast<std::size_t>(i)];
        float score = std::min(lowest - (left.front().score - quick), before);
        if (quick < quick_before) score = std::min(score, std::nextafter(before, -kInfinity));
        before = score;
        quick_before = quick;
        ids[i] = items[slot];
        scores[i] = score;
        scratch.candidates_.push_back(slot);
    }
    return count;
}

// The best k of scratch.scored_ in order: those under the k-th score are left out before anything is sorted.
void SessionMemory::place(std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    std::vector<Scored>& scored = scratch.scored_;
    const auto count = static_cast<std::int64_t>(scored.size());
    if (k < count) {
        using Limits = std::numeric_limits<std::int32_t>;
        for (std::int64_t i = 0; i < count; ++i) {
            const float score = scored[static_cast<std::size_t>(i)].score + 0.0F;  // -0 and 0 tie
            const auto bits = std::bit_cast<std::int32_t>(score);
            const std::int32_t ordered = bits < 0 ? bits ^ Limits::max() : bits;
            scratch.score_keys_[static_cast<std::size_t>(i)] = std::isnan(score) ? Limits::min() : ordered;
        }
        const std::int32_t* const keys = scratch.score_keys_.get();
        const std::int32_t least = kth_largest(*kernels_, keys, count, k, Limits::min(), std::int64_t{Limits::max()} + 1);
        std::size_t kept = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            scored[kept] = scored[static_cast<std::size_t>(i)];
            kept += keys[i] >= least ? 1 : 0;
        }
        scored.resize(kept);
    }
    place_best(scored.data(), static_cast<std::int64_t>(scored.size()), k, ids, scores);
}

void SessionMemory::rank_rest(const MemoryRequest& request, double scale, float lowest, std::int64_t k,
                              std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    const auto bound = static_cast<float>(scale);
    float before = lowest, logit_before = kInfinity;
    std::vector<std::int32_t>& taken = scratch.candidates_;
    std::sort(taken.begin(), taken.end(), [&](std::int32_t a, std::int32_t b) {
        return scratch.pool_.items[a] < scratch.pool_.items[b];
    });
    for (std::int64_t i = 0; i < request.n_dense && k > 0; ++i) {
        const std::int32_t item = request.dense[i];
        if (item < 0) break;
        const auto found = std::lower_bound(taken.begin(), taken.end(), item, [&](std::int32_t slot, std::int32_t id) {
            return scratch.pool_.items[slot] < id;
        });
        if (found != taken.end() && scratch.pool_.items[*found] == item) continue;
        const float logit = std::min(request.logits[i], bound);
        float score = std::min(lowest - (bound - logit), before);
        if (logit < logit_before) score = std::min(score, std::nextafter(before, -kInfinity));
        before = score;
        logit_before = logit;
        *ids++ = item;
        *scores++ = score;
        --k;
    }
}

}  // namespace mtaw
