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
    const std::int32_t* const keys = scratch.keys_.get();
    const std::int32_t n_others = pool.count - n_own;
    constexpr std::int64_t kOver = 0x7F800001;  // than the bits of any number
    std::int32_t least = 0, least_turned = -static_cast<std::int32_t>(bounds_.catalog);
    if (kernels_->count_at_least(keys + n_own, n_others, 0) > settings_.others) {
        least = kth_largest(*kernels_, keys + n_own, n_others, settings_.others, 0, kOver);
        const std::int64_t better = kernels_->count_at_least(keys + n_own, n_others, least + 1);
        std::vector<std::int32_t>& ties = scratch.candidates_;
        ties.clear();
        for (std::int32_t slot = n_own; slot < pool.count; ++slot) {
            if (keys[slot] == least) ties.push_back(pool.items[slot]);
        }
        const auto n_ties = static_cast<std::int64_t>(ties.size());
        if (better + n_ties > settings_.others) {
            // The lower id is the better one: ids count downwards.
            for (std::int32_t& item : ties) item = -item;
            least_turned = kth_largest(*kernels_, ties.data(), n_ties, settings_.others - better, -bounds_.catalog, 1);
        }
    }
    std::vector<std::int32_t>& chosen = scratch.candidates_;
    chosen.clear();
    const auto take = [&](std::int32_t slot) {
        chosen.push_back(slot);
        merged_.prefetch_counts(pool.items[slot]);
    };
    for (std::int32_t slot = 0; slot < n_own; ++slot) {
        if (keys[slot] >= 0) take(slot);
    }
    // The dense ones before the rest: their logits are known, those of the rest can come from memory meanwhile.
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense) && request.dense[i] >= 0; ++i) {
        const std::int32_t slot = pool.place[request.dense[i]] - 1;
        if (slot >= n_own && keys[slot] >= 0) take(slot);
    }
    for (std::int32_t slot = n_own; slot < pool.count; ++slot) {
        const bool taken = keys[slot] > least || (keys[slot] == least && -pool.items[slot] >= least_turned);
        const float* const more = more_of(pool, slot);
        if ((taken || (more[kTrending] != 0 && keys[slot] >= 0)) && more[kDenseLead] == 0) take(slot);
    }
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
