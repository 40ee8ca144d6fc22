// Keeps rows of the delta short to read: folded terms, strongest neighbors, and no more pairs than tables keep.
#include <algorithm>
#include <cstddef>
#include <limits>

#include "memory/tables.hpp"
#include "memory/delta.hpp"

namespace mtaw {
namespace {

// A row's terms are summed by every query that holds its item, 5 ns each, until there are so many that they are folded:
// kFewTerms, or one in kTermShare of all, so that folding costs a term at most kTermShare times its own sum. Folded
// terms no longer follow their session: if it continues, their aa and rec stay as they were until everything is folded
// again. So the sessions clicked last, the likeliest to continue, are left out: kUnsettled, or a share of `recency`.
constexpr std::int64_t kFewTerms = 512, kTermShare = 32, kUnsettled = 256;
constexpr double kUnsettledShare = 1.0 / 32;
constexpr std::int64_t kDriftEvents = 128;  // after so many, the strongest are found again in any case
constexpr std::size_t kSmallRow = 128;      // pairs up to which a query finds the strongest itself
constexpr double kRounded = 1 + 0x1p-8, kBelow = 1 - 0x1p-40;
// Which pairs are read is found again after so many terms, or one in kCutShare of all.
constexpr std::int64_t kCutTerms = 16, kCutShare = 64;

}  // namespace

// Called for every row that an event changed, once its terms are in.
void MemoryDelta::maintain(DeltaRow& row) {
    const auto n_terms = static_cast<std::int64_t>(row.terms.size());
    if (n_terms - row.folded > row.unfolded + std::max(kFewTerms, n_terms / kTermShare)) fold_terms(row);
    if (n_terms - row.cut_terms > std::max(kCutTerms, n_terms / kCutShare)) cut_row(row);
    if (base_.row(row.item).count + static_cast<std::int64_t>(row.pairs.size()) <= kStrong) {
        row.may_enter_strong = false;  // all of them are
        row.strong.clear();
        mark_strong(row);
    } else {
        row.is_stale = row.is_stale || row.may_enter_strong || row.pairs.size() <= kSmallRow;
        if (!row.is_queued) {
            row.is_queued = true;
            unranked_.push_back(row.item);
        }
    }
    longest_row_ = std::max(longest_row_, row.read_count());
}

void MemoryDelta::mark_strong(DeltaRow& row) {
    for (DeltaPair& pair : row.pairs) pair.strong_at = -1;
    for (std::size_t i = 0; i < row.strong.size(); ++i) {
        if (row.strong[i].pair >= 0) {
            row.pairs[static_cast<std::size_t>(row.strong[i].pair)].strong_at = static_cast<std::int8_t>(i);
        }
    }
}

// A query finds the strongest of what is stale itself: once for many events is enough for all the others. The rest,
// where only totals and ages have changed the order, waits longer. It is done by the count of events, so that their
// portioning changes nothing.
void MemoryDelta::rank_rows() {
    std::size_t n_waiting = 0;
    for (const std::int32_t item : unranked_) {
        DeltaRow& row = row_at(item);
        if (!row.is_stale && n_events_ % kDriftEvents != 0) {
            unranked_[n_waiting++] = item;
            continue;
        }
        find_strong(row, row.strong, row_sums_);
        row.strong_least =
            row.strong.size() < static_cast<std::size_t>(kStrong) ? -1 : weakest_strength(row, row_sums_);
        mark_strong(row);
        row.ranked_rec = static_cast<double>(row_sums_.totals[kRec]);
        row.may_enter_strong = row.is_stale = row.is_queued = false;
    }
    unranked_.resize(n_waiting);
}

void MemoryDelta::fold_terms(DeltaRow& row) {
    const std::int64_t unsettled =
        std::max(kUnsettled, static_cast<std::int64_t>(std::min(base_.settings().recency * kUnsettledShare, 0x1p40)));
    const std::int64_t settled = std::max<std::int64_t>(sessions_.count() - unsettled, 0);
    const auto first_unsettled = std::stable_partition(row.terms.begin(), row.terms.end(), [&](const DeltaTerm& term) {
        return sessions_.position(term.session) < settled;
    });
    row.folded = first_unsettled - row.terms.begin();
    row.unfolded = row.terms.end() - first_unsettled;
    row.fold_mark = 0;
    for (std::int64_t i = 0; i < row.folded; ++i) {
        row.fold_mark = std::max(row.fold_mark, sessions_.stamp(row.terms[static_cast<std::size_t>(i)].session));
    }
    const auto n_pairs = row.pairs.size();
    row_sums_.aa.assign(n_pairs, 0);
    row_sums_.rec.assign(n_pairs, 0);
    row_sums_.last.assign(n_pairs, -1);
    // Ages count from the latest session that is folded, whatever becomes of it and of those behind it. From a later
    // one the sums of an item that was not clicked for long could be 0, and the query of its latest session scale them
    // by infinity.
    sum_terms(row, 0, row.folded, base_.n_sessions() + sessions_.before(row.fold_mark), row_sums_);
    const std::vector<std::int32_t> slots = sessions_.ordered();
    for (std::size_t p = 0; p < n_pairs; ++p) {
        DeltaPair& pair = row.pairs[p];
        if (pair.past_at < 0 && row_sums_.last[p] < 0) continue;
        PairPast& past = row.past_of(pair);
        past.folded_aa = row_sums_.aa[p];
        past.folded_rec = row_sums_.rec[p];
        past.folded_latest = row_sums_.last[p] < 0 ? -1 : slots[static_cast<std::size_t>(row_sums_.last[p])];
    }
}

// Finds the pairs that a query reads: as many as tables keep, by what a rebuilt row would be ordered by.
void MemoryDelta::cut_row(DeltaRow& row) {
    row.cut_terms = static_cast<std::int64_t>(row.terms.size());
    const RowView base = base_.row(row.item);
    const auto n_pairs = static_cast<std::int64_t>(row.pairs.size());
    const std::int64_t max_neighbors = base_.settings().max_neighbors;
    if (max_neighbors == 0 || base.count + n_pairs <= max_neighbors) return;
    sum_row(row, row_sums_);
    struct Ranked {
        double strength;
        std::int32_t neighbor;
        std::int64_t source;  // the delta's pair, or -1 - the index of one that the base alone has
    };
    std::vector<Ranked> ranked;
    ranked.reserve(static_cast<std::size_t>(n_pairs + base.count));
    std::vector<std::uint8_t> marks(static_cast<std::size_t>(base.count), 0);
    for (std::int64_t p = 0; p < n_pairs; ++p) {
        const auto index = static_cast<std::size_t>(p);
        const DeltaPair& pair = row.pairs[index];
        const PairBase& base_pair = row.base_of(pair);
        if (base_pair.index >= 0) marks[static_cast<std::size_t>(base_pair.index)] = 1;
        ranked.push_back({strength(base_pair, pair.sums, row_sums_.rec[index], row_sums_), pair.neighbor, p});
    }
    for (std::int64_t p = 0; p < base.count; ++p) {
        if (marks[static_cast<std::size_t>(p)] != 0) continue;
        ranked.push_back({strength_of_base(base, p, row_sums_), base.neighbors[p], -1 - p});
    }
    const std::int64_t n_kept = std::min(max_neighbors, static_cast<std::int64_t>(ranked.size()));
    std::nth_element(ranked.begin(), ranked.begin() + (n_kept - 1), ranked.end(), [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.neighbor < y.neighbor;
    });
    row.cut_least = ranked[static_cast<std::size_t>(n_kept - 1)].strength;
    std::fill(marks.begin(), marks.end(), 0);  // from here on: whether it is read
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(ranked.size()); ++i) {
        const std::int64_t source = ranked[static_cast<std::size_t>(i)].source;
        std::int64_t base_index = -1 - source;
        if (source >= 0) {
            DeltaPair& pair = row.pairs[static_cast<std::size_t>(source)];
            row.set_weak(pair, i >= n_kept);
            base_index = row.base_of(pair).index;
        }
        if (i < n_kept && base_index >= 0) marks[static_cast<std::size_t>(base_index)] = 1;
    }
    row.narrowed = true;
    row.base_runs.clear();
    for (std::int32_t p = 0; p < base.count; ++p) {
        if (marks[static_cast<std::size_t>(p)] == 0) continue;
        if (row.base_runs.empty() || row.base_runs.back().second != p) row.base_runs.emplace_back(p, p);
        row.base_runs.back().second = p + 1;
    }
}

// Sets what a row takes from the tables, before anything is added to it.
void MemoryDelta::init_row(DeltaRow& row) const {
    const RowView base = base_.row(row.item);
    row.narrowed = false;
    row.base_runs.clear();
    row.cut_least = row.strong_least = -1;
    if (base.totals == nullptr) return;
    const std::int64_t newest = base_.number(base_.counts(row.item)[kNewest]);
    MaterializedRow aged;
    aged.base_aging = static_cast<float>(aging_(n_sessions() - 1 - newest));
    std::copy_n(base.totals, kPairKinds, aged.totals);
    aged.totals[kRec] *= aged.base_aging;
    row.ranked_rec = static_cast<double>(aged.totals[kRec]);
    std::copy_n(base.totals, kFixedKinds, row.base_totals);
    *row.ses = static_cast<float>(row.base_totals[kSes] + row.totals[kSes]);
    if (base.count >= kStrong) row.strong_least = strength_of_base(base, kStrong - 1, aged);
    if (base_.is_cut(base)) row.cut_least = strength_of_base(base, base.count - 1, aged);
}

// By what a rebuilt row would be ordered by; rec: the delta's, as of `totals`.
double MemoryDelta::strength(const PairBase& base, const double* sums, double rec, const MaterializedRow& row) {
    double sum = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        sum += (base.whole(kind) + sums[kind]) / (static_cast<double>(row.totals[kind]) + 1.0);
    }
    const double whole = base.whole(kRec) * static_cast<double>(row.base_aging) + rec;
    return sum + whole / (static_cast<double>(row.totals[kRec]) + 1.0);
}

// Of a pair that the base alone has.
double MemoryDelta::strength_of_base(const RowView& base, std::int64_t base_index, const MaterializedRow& row) {
    constexpr double kNoSums[kFixedKinds] = {};
    PairBase alone = kNoBase;
    std::copy_n(base.values + base_index * kPairKinds, kPairKinds, alone.values);
    return strength(alone, kNoSums, 0, row);
}

void MemoryDelta::find_strong(const DeltaRow& row, std::vector<StrongPair>& out, MaterializedRow& row_sums) const {
    struct Ranked {
        double strength;
        StrongPair pair;
    };
    sum_row(row, row_sums);
    std::vector<Ranked> ranked;
    const auto n_pairs = static_cast<std::int32_t>(row.pairs.size());
    ranked.reserve(static_cast<std::size_t>(n_pairs) + 2 * kStrong);
    for (std::int32_t p = 0; p < n_pairs; ++p) {
        const DeltaPair& pair = row.pairs[static_cast<std::size_t>(p)];
        const double pair_strength =
            strength(row.base_of(pair), pair.sums, row_sums.rec[static_cast<std::size_t>(p)], row_sums);
        ranked.push_back({pair_strength, {pair.neighbor, p, row.fwd_of(pair)}});
    }
    // Its order under the base's totals is nearly that under both; where the values' roundings could have turned two
    // around it is right.
    const RowView base = base_.row(row.item);
    std::int64_t others = 0;
    double previous_strength = 0;
    for (std::int64_t p = 0; p < base.count && others < 2 * kStrong; ++p) {
        if (row.find(base.neighbors[p]) >= 0) continue;
        ++others;
        const double pair_strength = strength_of_base(base, p, row_sums);
        previous_strength = pair_strength >= previous_strength && pair_strength <= previous_strength * kRounded
                                ? previous_strength * kBelow
                                : pair_strength;
        ranked.push_back(
            {previous_strength, {base.neighbors[p], -1, from_bfloat16(base.values[p * kPairKinds + kFwd])}});
    }
    const auto stronger = [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.pair.neighbor < y.pair.neighbor;
    };
    const auto end = ranked.begin() + std::min<std::ptrdiff_t>(kStrong, static_cast<std::ptrdiff_t>(ranked.size()));
    if (end != ranked.end()) std::nth_element(ranked.begin(), end - 1, ranked.end(), stronger);
    out.clear();
    out.reserve(kStrong);
    for (auto entry = ranked.begin(); entry != end; ++entry) out.push_back(entry->pair);
}

// The strength of the weakest of `strong`.
double MemoryDelta::weakest_strength(const DeltaRow& row, const MaterializedRow& row_sums) const {
    double weakest = std::numeric_limits<double>::infinity();
    const RowView base = base_.row(row.item);
    for (const StrongPair& strong_pair : row.strong) {
        if (strong_pair.pair >= 0) {
            const auto p = static_cast<std::size_t>(strong_pair.pair);
            const DeltaPair& pair = row.pairs[p];
            weakest = std::min(weakest, strength(row.base_of(pair), pair.sums, row_sums.rec[p], row_sums));
        } else {
            const std::int32_t* const found =
                std::find(base.neighbors, base.neighbors + base.count, strong_pair.neighbor);
            weakest = std::min(weakest, strength_of_base(base, found - base.neighbors, row_sums));
        }
    }
    return weakest;
}

}  // namespace mtaw
