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

// Added to quick scores: those that are nearly 0, as after weeks, are equal then.
constexpr float kQuickOffset = 1e-4F;

}  // namespace

// The pre-score of every slot, as bits: those of positive numbers have their order.
void SessionMemory::compute_pre_scores(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    float* const roots = scratch.inverse_roots_.data();
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        roots[slot] = merged_.ses(pool.items[slot]);
    }
    for (std::int64_t u = 0; scratch.current_.found() && u < scratch.own_.count; ++u) {
        roots[u] = total_without(roots[u], kSes, own_evidence_of(scratch, u));
    }
    std::fill(roots + pool.count, roots + pool.count + kPadding, 0.0F);
    kernels_->inverse_root(roots, pool.count);
    for (std::int32_t slot = 0; slot < pool.count; ++slot) {
        float* const signals = signals_of(pool, slot);
        signals[kInverseRoot] = roots[slot];
        const float score = signals[kPreScore] = pre_score(sums_of(pool, slot), signals);
        scratch.keys_[static_cast<std::size_t>(slot)] = std::bit_cast<std::int32_t>(score);
    }
    constexpr std::int32_t kBanned = std::numeric_limits<std::int32_t>::min();
    if (request.allowed != nullptr || request.n_items < bounds_.catalog) {
        for (std::int32_t slot = 0; slot < pool.count; ++slot) {
            const std::int32_t item = pool.items[slot];
            const bool is_allowed = item < request.n_items &&
                                    (request.allowed == nullptr || (request.allowed[item >> 3] >> (item & 7) & 1) != 0);
            if (!is_allowed) scratch.keys_[static_cast<std::size_t>(slot)] = kBanned;
        }
    }
    for (std::int64_t i = 0; i < request.n_excluded; ++i) {
        if (request.excluded[i] < 0 || request.excluded[i] >= bounds_.catalog) continue;
        const std::int32_t entry = pool.slot_plus_one[request.excluded[i]];
        if (entry != 0) scratch.keys_[static_cast<std::size_t>(entry) - 1] = kBanned;
    }
}

void SessionMemory::choose_candidates(const MemoryRequest& request, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    const auto n_own = static_cast<std::int32_t>(scratch.own_.count);
    std::int32_t* const keys = scratch.keys_.get();
    const std::int32_t n_others = pool.count - n_own;
    std::vector<std::int32_t>& chosen = scratch.candidates_;
    chosen.resize(
        static_cast<std::size_t>(pool.count + kPadding));  // entries are written before they are known to count
    KeyCut cut{0};
    if (kernels_->count_at_least(keys + n_own, n_others, 0) > settings_.others) {
        const auto item_of = [&](std::int32_t i) { return pool.items[n_own + i]; };
        cut = cut_of(*kernels_, keys + n_own, n_others, settings_.others, 0, item_of, chosen.data());
    }
    constexpr std::int32_t kAlwaysKept = std::numeric_limits<std::int32_t>::max(), kAlreadyChosen = -1;
    for (const std::int32_t item : scratch.trending_items_) {
        const std::int32_t slot = pool.slot_plus_one[item] - 1;
        if (keys[slot] >= 0) keys[slot] = kAlwaysKept;
    }
    std::int32_t* next = chosen.data();
    for (std::int32_t slot = 0; slot < n_own; ++slot) {
        if (keys[slot] >= 0) *next++ = slot;
    }
    // The dense ones before the rest: their logits are known, those of the rest can come from memory meanwhile.
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense) && request.dense[i] >= 0; ++i) {
        const std::int32_t slot = pool.slot_plus_one[request.dense[i]] - 1;
        if (slot >= n_own && keys[slot] >= 0) {
            *next++ = slot;
            keys[slot] = kAlreadyChosen;
        }
    }
    next += kernels_->list_taken(keys + n_own, pool.items + n_own, n_others, cut.lowest, cut.last, n_own, next);
    chosen.resize(static_cast<std::size_t>(next - chosen.data()));
}

void SessionMemory::prune_candidates(const MemoryRequest& request, std::int64_t k, MemoryScratch& scratch) const {
    const Pool& pool = scratch.pool_;
    std::vector<std::int32_t>& slots = scratch.candidates_;
    const auto count = static_cast<std::int64_t>(slots.size());
    std::int64_t n_own = 0;  // they come first
    while (n_own < count && slots[static_cast<std::size_t>(n_own)] < scratch.own_.count) ++n_own;
    const std::int64_t n_others = count - n_own;
    if (n_others <= settings_.ranked) return;
    const float per_dense = quick_per_dense();
    std::int32_t* const keys = scratch.score_keys_.get();
    for (std::int64_t i = 0; i < n_others; ++i) {
        const float score = quick_score(signals_of(pool, slots[static_cast<std::size_t>(n_own + i)]), per_dense);
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
        const bool is_kept =
            cut.takes(keys[i], item) || (always != nullptr && (always[item >> 3] >> (item & 7) & 1) != 0);
        if (!is_kept && needs_left_out) scratch.unranked_.push_back({std::bit_cast<float>(keys[i]), slot});
        *kept = slot;
        kept += is_kept ? 1 : 0;
    }
    slots.erase(kept, slots.end());
}

std::int64_t SessionMemory::append_unranked(float lowest, std::int64_t k, std::int32_t* ids, float* scores,
                                            MemoryScratch& scratch) {
    std::vector<Scored>& unranked = scratch.unranked_;
    const std::int32_t* const items = scratch.pool_.items;
    std::sort(unranked.begin(), unranked.end(), [&](const Scored& a, const Scored& b) {
        return a.score != b.score ? a.score > b.score : items[a.id] < items[b.id];
    });
    const auto count = std::min(k, static_cast<std::int64_t>(unranked.size()));
    float previous_score = lowest, previous_quick = kInfinity;
    for (std::int64_t i = 0; i < count; ++i) {
        const auto [quick, slot] = unranked[static_cast<std::size_t>(i)];
        float score = std::min(lowest - (unranked.front().score - quick), previous_score);
        if (quick < previous_quick) score = std::min(score, std::nextafter(previous_score, -kInfinity));
        previous_score = score;
        previous_quick = quick;
        ids[i] = items[slot];
        scores[i] = score;
        scratch.candidates_.push_back(slot);
    }
    return count;
}

// The best k of scratch.scored_ in order: those under the k-th score are left out before anything is sorted.
void SessionMemory::write_best(std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
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
        const std::int32_t kth = kth_largest(*kernels_, keys, count, k, Limits::min(), std::int64_t{Limits::max()} + 1);
        std::size_t n_kept = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            scored[n_kept] = scored[static_cast<std::size_t>(i)];
            n_kept += keys[i] >= kth ? 1 : 0;
        }
        scored.resize(n_kept);
    }
    place_best(scored.data(), static_cast<std::int64_t>(scored.size()), k, ids, scores);
}

void SessionMemory::append_dense(const MemoryRequest& request, double scale, float lowest, std::int64_t k,
                                 std::int32_t* ids, float* scores, MemoryScratch& scratch) const {
    const auto bound = static_cast<float>(scale);
    float previous_score = lowest, previous_logit = kInfinity;
    std::vector<std::int32_t>& ranked_slots = scratch.candidates_;
    std::sort(ranked_slots.begin(), ranked_slots.end(),
              [&](std::int32_t a, std::int32_t b) { return scratch.pool_.items[a] < scratch.pool_.items[b]; });
    for (std::int64_t i = 0; i < request.n_dense && k > 0; ++i) {
        const std::int32_t item = request.dense[i];
        if (item < 0) break;
        const auto found =
            std::lower_bound(ranked_slots.begin(), ranked_slots.end(), item,
                             [&](std::int32_t slot, std::int32_t id) { return scratch.pool_.items[slot] < id; });
        if (found != ranked_slots.end() && scratch.pool_.items[*found] == item) continue;
        const float logit = std::min(request.logits[i], bound);
        float score = std::min(lowest - (bound - logit), previous_score);
        if (logit < previous_logit) score = std::min(score, std::nextafter(previous_score, -kInfinity));
        previous_score = score;
        previous_logit = logit;
        *ids++ = item;
        *scores++ = score;
        --k;
    }
}

}  // namespace mtaw
