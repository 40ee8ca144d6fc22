// Sums what the tables have on a query's items into the pool.
#include <algorithm>
#include <cstdint>

#include "compiler.hpp"
#include "memory/query.hpp"
#include "prefetch.hpp"

namespace mtaw {
namespace {

// What one own item's row adds to each lane, without the value.
struct RowFactors {
    alignas(64) float lanes[kSumLanes];
};

RowFactors row_factors(const float* totals, std::int64_t u, float decayed, float even_weight, float age, float root) {
    const auto share = [&](int kind) { return 1.0F / (totals[kind] + 1.0F); };
    const float last = u == 0 ? 1.0F : 0.0F, previous = u == 1 ? 1.0F : 0.0F;
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
    factors.lanes[kSesAll] = even_weight * ses;
    factors.lanes[kSesLast] = last * ses;
    factors.lanes[kCosDec] = decayed * root;
    factors.lanes[kCosAll] = even_weight * root;
    factors.lanes[kRecDec] = decayed * rec;
    factors.lanes[kRecAll] = even_weight * rec;
    factors.lanes[kAaDec] = decayed * share(kAa);
    factors.lanes[kReached] = 1.0F;
    return factors;
}

void prefetch_row(const RowView& row) {
    prefetch(row.neighbors, row.count);
    prefetch(row.latest, row.count);
    prefetch(row.values, row.count * kPairKinds);
}

}  // namespace

// Everything is far apart in memory: prefetches what all own items need before the first is read.
void SessionMemory::prefetch_own(const OwnItems& own) const {
    for (std::int64_t u = 0; u < own.count; ++u) {
        const std::int64_t item = own.list[u].item;
        RowView row = merged_.row(item);
        if (const DeltaRow* const delta_row = merged_.delta_row(item)) {
            prefetch(delta_row, 1);
            prefetch(delta_row->terms.data() + delta_row->folded,
                     static_cast<std::int64_t>(delta_row->terms.size()) - delta_row->folded);
            if (delta_row->merged == nullptr) {
                prefetch(delta_row->pairs.data(), static_cast<std::int64_t>(delta_row->pairs.size()));
            } else {
                row = delta_row->merged->view();
                for (const std::int32_t pair : delta_row->merged->changed)
                    MTAW_PREFETCH(delta_row->pairs.data() + pair);
            }
        }
        prefetch_row(row);
        if (item >= memory_.n_items) continue;
        MTAW_PREFETCH(memory_.totals + item * kPairKinds);
        MTAW_PREFETCH(memory_.counts + item * kCountKinds);
    }
    for (std::int64_t u = 0; u < own.count; ++u) {
        const DeltaRow* const delta_row = merged_.delta_row(own.list[u].item);
        if (delta_row == nullptr || delta_row->merged == nullptr) continue;
        for (const std::int32_t p : delta_row->merged->changed) {
            const DeltaPair& pair = delta_row->pairs[static_cast<std::size_t>(p)];
            MTAW_PREFETCH(&delta_row->base_of(pair));
            MTAW_PREFETCH(&delta_row->past_of(pair));
        }
    }
}

void SessionMemory::find_current_session(const MemoryRequest& request, MemoryScratch& scratch) const {
    OwnItems& own = scratch.own_;
    prefetch_own(own);
    scratch.current_ = delta_ == nullptr ? CurrentSession{} : delta_->current(request.clicks, request.n_clicks);
    for (std::int64_t u = 0; u < own.count; ++u) merged_.counts(own.list[u].item, own.counts[u]);
    const CurrentSession& current = scratch.current_;
    if (!current.found()) return;
    const std::int32_t* const clicks = request.clicks;
    for (std::int64_t u = 0; u < own.count; ++u) {
        std::int32_t* const counts = own.counts[u];
        const std::int32_t item = own.list[u].item;
        const auto own_evidence = static_cast<std::int32_t>(std::count(clicks, clicks + request.n_clicks, item));
        counts[kClicks] -= own_evidence;
        counts[kSessions] -= 1;
        counts[kRepeatedLater] -= own_evidence - 1;
        for (std::int64_t t = 1; t < request.n_clicks; ++t) {
            counts[kRepeatedAtOnce] -= clicks[t] == item && clicks[t - 1] == item ? 1 : 0;
        }
        counts[kNewest] = static_cast<std::int32_t>(delta_->newest(item, *delta_->find_counts(item), current));
    }
    list_own_evidence(clicks, request.n_clicks, own, delta_->base().settings(), delta_->once(), scratch.own_evidence_);
}

void SessionMemory::add_neighbors(MemoryScratch& scratch) const {
    const OwnItems& own = scratch.own_;
    const auto has_row = [&](std::int64_t u) {
        return own.list[u].item < memory_.n_items || merged_.delta_row(own.list[u].item) != nullptr;
    };
    float ages[kMaxOwn + kPadding], roots[kMaxOwn + kPadding];
    for (std::int64_t u = 0; u < own.count; ++u) {
        ages[u] = roots[u] = 0;
        if (!has_row(u)) continue;
        const std::int64_t item = own.list[u].item;
        const std::int32_t newest = own.counts[u][kNewest];
        // An item without a click can have neighbors from priors, which count as of now.
        const std::int64_t age =
            newest < 0 && merged_.delta_row(item) != nullptr ? 0 : n_sessions(scratch) - 1 - newest;
        ages[u] = static_cast<float>(-static_cast<double>(age) / memory_.recency);
        roots[u] = total_without(merged_.ses(item), kSes, own_evidence_of(scratch, u));
    }
    std::fill(ages + own.count, ages + own.count + kPadding, 0.0F);
    std::fill(roots + own.count, roots + own.count + kPadding, 0.0F);
    kernels_->exp(ages, own.count);
    kernels_->inverse_root(roots, own.count);
    const float even_weight = 1.0F / static_cast<float>(own.count);
    StrongNeighbors strong;
    for (std::int64_t u = 0; u < own.count; ++u) {
        if (!has_row(u)) continue;
        const std::int64_t item = own.list[u].item;
        const float near = 1.0F / (1.0F + static_cast<float>(own.list[u].back));
        RowView row = merged_.row(item);
        const DeltaRow* const delta_row = merged_.delta_row(item);
        MaterializedRow& materialized = scratch.delta_row_;
        if (delta_row != nullptr) {
            row = delta_->materialize(*delta_row, materialized, scratch.current_, own_evidence_of(scratch, u));
        }
        RowFactors factors = row_factors(delta_row == nullptr ? row.totals : materialized.totals, u,
                                         own.list[u].decayed, even_weight, ages[u], roots[u]);
        if (delta_row != nullptr) {
            kernels_->add_delta_row(materialized.view(), factors.lanes, near, scratch.pool_);
            for (const int lane : {kRecDec, kRecAll}) factors.lanes[lane] *= materialized.base_aging;
        }
        if (delta_row == nullptr) {
            kernels_->add_row(row, factors.lanes, near, scratch.pool_);
        } else {
            for (const auto& [begin, end] : materialized.runs)
                kernels_->add_row(part_of(row, begin, end), factors.lanes, near, scratch.pool_);
        }
        if (u == 0) {
            strong = this->strong(item, scratch);
            for (std::int64_t i = 0; i < strong.count; ++i) {
                if (const DeltaRow* const middle_item = merged_.delta_row(strong.neighbors[i])) {
                    prefetch(middle_item, 1);
                }
                if (strong.neighbors[i] >= memory_.n_items) continue;
                MTAW_PREFETCH(memory_.row_offsets + strong.neighbors[i]);
                MTAW_PREFETCH(memory_.totals + std::int64_t{strong.neighbors[i]} * kPairKinds);
            }
        }
    }
    if (has_row(0)) prefetch_two_step(strong);
}

void SessionMemory::prefetch_two_step(const StrongNeighbors& strong) const {
    for (std::int64_t i = 0; i < strong.count; ++i) {
        const std::int64_t middle_item = strong.neighbors[i];
        if (const DeltaRow* const delta_row = merged_.delta_row(middle_item)) {
            prefetch(delta_row->strong.data(), static_cast<std::int64_t>(delta_row->strong.size()));
        }
        const RowView row = merged_.row(middle_item);
        const std::int64_t length = std::min(row.count, kStrong);
        prefetch(row.neighbors, length);
        prefetch(row.values, length * kPairKinds);
    }
}

StrongNeighbors SessionMemory::strong(std::int64_t item, const MemoryScratch& scratch) const {
    StrongNeighbors found = merged_.strong(item);
    if (!scratch.current_.found()) return found;
    const std::int32_t entry = scratch.pool_.slot_plus_one[item];
    if (entry == 0 || entry > scratch.own_.count) return found;
    const OwnEvidence& own_evidence = *own_evidence_of(scratch, entry - 1);
    found.total = total_without(found.total, kFwd, &own_evidence);
    for (const OwnEvidence::Pair& pair : own_evidence.pairs) {
        // If tables and delta have separate entries, the delta's is the later one.
        for (std::int64_t i = found.count - 1; i >= 0; --i) {
            if (found.neighbors[i] != pair.neighbor) continue;
            found.fwd[i] = std::max(found.fwd[i] - static_cast<float>(pair.sums[kFwd]), 0.0F);
            break;
        }
    }
    return found;
}

void SessionMemory::add_two_step(MemoryScratch& scratch) const {
    const StrongNeighbors first_step = strong(scratch.own_.list[0].item, scratch);
    const float share = 1.0F / (first_step.total + 1.0F);
    for (std::int64_t i = 0; i < first_step.count; ++i) {
        const float first_share = first_step.fwd[i] * share;
        if (first_share == 0) continue;
        const StrongNeighbors second_step = strong(first_step.neighbors[i], scratch);
        const float middle_share = first_share * (1.0F / (second_step.total + 1.0F));
        for (std::int64_t r = 0; r < second_step.count; ++r) {
            const std::int32_t slot = slot_of_known(scratch.pool_, second_step.neighbors[r]);
            signals_of(scratch.pool_, slot)[kSecond] += second_step.fwd[r] * middle_share;
        }
    }
}

void SessionMemory::add_dense(const MemoryRequest& request, MemoryScratch& scratch) const {
    for (std::int64_t i = 0; i < std::min(request.n_dense, settings_.dense); ++i) {
        if (request.dense[i] < 0) break;
        const std::int32_t slot = slot_of(scratch.pool_, request.dense[i]);
        float* const signals = signals_of(scratch.pool_, slot);
        signals[kDenseLead] = static_cast<float>(settings_.dense - i);
        signals[kLogit] = request.logits[i];
    }
}

void SessionMemory::set_query_facts(const MemoryRequest& request, MemoryScratch& scratch) const {
    QueryFacts& facts = scratch.facts_;
    const OwnItems& own = scratch.own_;
    facts.clicks = static_cast<float>(own.clicks);
    facts.distinct = static_cast<float>(own.count);
    facts.streak = static_cast<float>(own.streak);
    facts.last_sessions = static_cast<float>(own.counts[0][kSessions]);
    facts.sessions = static_cast<float>(n_sessions(scratch));
    facts.after = static_cast<float>(n_sessions(scratch) + 1);
    facts.per_session = 1.0F / facts.after;
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
        const std::int64_t base = added ? vectors.n : 0, end = added ? vectors.n + vectors.n_added : vectors.n;
        const auto is_missing = [&](std::int32_t slot) {
            return signals_of(pool, slot)[kDenseLead] == 0 && pool.items[slot] >= base && pool.items[slot] < end;
        };
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) missing.push_back({0.0F, static_cast<std::int32_t>(pool.items[slots[i]] - base)});
        }
        score_items(query, added ? vectors.added : vectors.rows, vectors.d, vectors.scale, missing.data(),
                    static_cast<std::int64_t>(missing.size()), isa_);
        std::size_t next = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (is_missing(slots[i])) signals_of(pool, slots[i])[kLogit] = missing[next++].score;
        }
    };
    score_missing(false);
    if (vectors.added != nullptr) score_missing(true);
}

// The trends' part of a query: their candidates, and features of all candidates.
void SessionMemory::add_trending(const MemoryRequest& request, MemoryScratch& scratch) const {
    const OwnItems& own = scratch.own_;
    std::int32_t items[kTrendOwn];
    TrendsRequest trends_request{items, std::min(own.count, kTrendOwn), request.now};
    for (std::int64_t u = 0; u < trends_request.n_own; ++u) items[u] = own.list[u].item;
    if (request.times != nullptr) set_times(request.times, request.n_clicks, trends_request);
    trends_request.catalog =
        std::min(bounds_.catalog, request.n_items);  // the trends may know new items that the memory does not
    trends_request.allowed = request.allowed;
    trends_request.excluded = request.excluded;
    trends_request.n_excluded = request.n_excluded;
    trends_request.context = request.context;
    trends_request.content = request.content;
    request.trends->start(trends_request, *kernels_, scratch.trends_);
    std::copy_n(scratch.trends_.query_features(), kTrendQueryFeatures, scratch.query_features_ + kQueryFeatures);
    if (settings_.trends == 0) return;
    scratch.trending_items_.resize(static_cast<std::size_t>(settings_.trends + kTrendRising));
    scratch.trending_scores_.resize(scratch.trending_items_.size());
    std::int32_t* const ids = scratch.trending_items_.data();
    float* const scores = scratch.trending_scores_.data();
    const std::int64_t count =
        request.trends->choose_candidates(trends_request, settings_.trends, ids, scores, *kernels_, scratch.trends_);
    scratch.trending_items_.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        signals_of(scratch.pool_, slot_of(scratch.pool_, ids[i]))[kTrending] = std::max(scores[i], kMinTrending);
    }
}

void SessionMemory::measure_trends(const MemoryRequest& request, MemoryScratch& scratch) const {
    std::vector<std::int32_t>& ids = scratch.measured_items_;
    ids.clear();
    for (const std::int32_t slot : scratch.candidates_) ids.push_back(scratch.pool_.items[slot]);
    request.trends->measure(ids.data(), static_cast<std::int64_t>(ids.size()), *kernels_, scratch.trends_);
}

}  // namespace mtaw
