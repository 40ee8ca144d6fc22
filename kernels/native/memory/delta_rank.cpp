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
constexpr std::size_t kSmallRow = 128;      // pairs up to which a query sums the row, and finds the strongest itself
constexpr double kRounded = 1 + 0x1p-8, kBelow = 1 - 0x1p-40;
// Which pairs are read is found again after so many terms, or one in kCutShare of all.
constexpr std::int64_t kCutTerms = 16, kCutShare = 64;

}  // namespace

// Called for every row that an event changed, once its terms are in.
void MemoryDelta::maintain(DeltaRow& row) {
    const auto n_terms = static_cast<std::int64_t>(row.terms.size());
    const bool is_folded = n_terms - row.folded > row.unfolded + std::max(kFewTerms, n_terms / kTermShare);
    if (is_folded) fold_terms(row);
    if (is_folded || n_terms - row.cut_terms > std::max(kCutTerms, n_terms / kCutShare)) narrow_row(row);
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
        if (row.strong[i].source >= 0) {
            row.pairs[static_cast<std::size_t>(row.strong[i].source)].strong_at = static_cast<std::int8_t>(i);
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
    row.folded = static_cast<std::int32_t>(first_unsettled - row.terms.begin());
    row.unfolded = static_cast<std::int32_t>(row.terms.end() - first_unsettled);
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
    for (std::size_t p = 0; p < n_pairs; ++p) {
        DeltaPair& pair = row.pairs[p];
        if (pair.past_at < 0 && row_sums_.last[p] < 0) continue;
        PairPast& past = row.past_of(pair);
        past.folded_aa = row_sums_.aa[p];
        past.folded_rec = row_sums_.rec[p];
        past.folded_latest = row_sums_.last[p] < 0 ? -1 : sessions_.slot_of_stamp(row_sums_.last[p]);
    }
}

// Finds what a query reads.
void MemoryDelta::narrow_row(DeltaRow& row) {
    row.cut_terms = static_cast<std::int32_t>(row.terms.size());
    const std::int64_t max_neighbors = base_.settings().max_neighbors;
    const bool is_long = row.pairs.size() > kSmallRow;
    const bool is_cut =
        max_neighbors > 0 && base_.row(row.item).count + static_cast<std::int64_t>(row.pairs.size()) > max_neighbors;
    if (!is_cut && !is_long) return;
    sum_row(row, row_sums_);
    if (is_cut) cut_row(row);
    if (is_long) merge_row(row);
}

// The pairs that a query reads: as many as tables keep, by what a rebuilt row would be ordered by; row_sums_: the
// row's.
void MemoryDelta::cut_row(DeltaRow& row) {
    const RowView base = base_.row(row.item);
    const auto n_pairs = static_cast<std::int64_t>(row.pairs.size());
    const std::int64_t max_neighbors = base_.settings().max_neighbors;
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
    auto& runs = row.make_rare().base_runs;
    runs.clear();
    for (std::int32_t p = 0; p < base.count; ++p) {
        if (marks[static_cast<std::size_t>(p)] == 0) continue;
        if (runs.empty() || runs.back().second != p) runs.emplace_back(p, p);
        runs.back().second = p + 1;
    }
}

// Sets what a row takes from the tables, before anything is added to it.
void MemoryDelta::init_row(DeltaRow& row) const {
    const RowView base = base_.row(row.item);
    row.narrowed = false;
    if (row.rare != nullptr) row.rare->base_runs.clear();
    row.cut_least = row.strong_least = -1;
    if (base.totals == nullptr) return;
    const std::int64_t newest = base_.number(base_.counts(row.item)[kNewest]);
    MaterializedRow aged;
    aged.base_aging = static_cast<float>(aging_(n_sessions() - 1 - newest));
    std::copy_n(base.totals, kPairKinds, aged.totals);
    aged.totals[kRec] *= aged.base_aging;
    aged.set_shares();
    row.ranked_rec = static_cast<double>(aged.totals[kRec]);
    std::copy_n(base.totals, kFixedKinds, row.base_totals);
    row.set_ses();
    if (base.count >= kStrong) row.strong_least = strength_of_base(base, kStrong - 1, aged);
    if (base_.is_cut(base)) row.cut_least = strength_of_base(base, base.count - 1, aged);
}

// By what a rebuilt row would be ordered by; rec: the delta's, as of `totals`.
double MemoryDelta::strength(const PairBase& base, const double* sums, double rec, const MaterializedRow& row) {
    double sum = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        sum += (base.whole(kind) + sums[kind]) * row.shares[kind];
    }
    const double whole = base.whole(kRec) * static_cast<double>(row.base_aging) + rec;
    return sum + whole * row.shares[kRec];
}

// Of a pair that the base alone has.
double MemoryDelta::strength_of_base(const RowView& base, std::int64_t base_index, const MaterializedRow& row) {
    constexpr double kNoSums[kFixedKinds] = {};
    PairBase alone = kNoBase;
    std::copy_n(base.values + base_index * kPairKinds, kPairKinds, alone.values);
    return strength(alone, kNoSums, 0, row);
}

void MemoryDelta::find_strong(const DeltaRow& row, ShortArray<StrongPair>& out, MaterializedRow& row_sums) const {
    struct Ranked {
        double strength;
        std::int32_t neighbor;
        std::int32_t source;  // StrongPair's
        float base_fwd;
    };
    sum_row(row, row_sums);
    const RowView base = base_.row(row.item);
    // Those that were the strongest bound what can be among them now. The order below may take a rounding off them.
    const double least = row.strong.size() < static_cast<std::size_t>(kStrong)
                             ? -1
                             : weakest_strength(row, row_sums) * kBelow / kRounded;
    row_sums.paired.assign(static_cast<std::size_t>(base.count), 0);
    std::vector<Ranked> ranked;
    ranked.reserve(4 * kStrong);
    for (std::size_t p = 0; p < row.pairs.size(); ++p) {
        const DeltaPair& pair = row.pairs[p];
        const PairBase& known = row.base_of(pair);
        if (known.index >= 0) row_sums.paired[static_cast<std::size_t>(known.index)] = 1;
        if (pair.weak) continue;
        const double pair_strength = strength(known, pair.sums, row_sums.rec[p], row_sums);
        if (pair_strength >= least) ranked.push_back({pair_strength, pair.neighbor, static_cast<std::int32_t>(p), 0});
    }
    // Its order under the base's totals is nearly that under both; where the values' roundings could have turned two
    // around it is right.
    std::int64_t others = 0;
    double previous_strength = 0;
    for (std::int64_t p = 0; p < base.count && others < 2 * kStrong; ++p) {
        if (row_sums.paired[static_cast<std::size_t>(p)] != 0) continue;
        ++others;
        const double pair_strength = strength_of_base(base, p, row_sums);
        previous_strength = pair_strength >= previous_strength && pair_strength <= previous_strength * kRounded
                                ? previous_strength * kBelow
                                : pair_strength;
        ranked.push_back({previous_strength, base.neighbors[p], static_cast<std::int32_t>(-1 - p),
                          from_bfloat16(base.values[p * kPairKinds + kFwd])});
    }
    const auto stronger = [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.neighbor < y.neighbor;
    };
    const auto end = ranked.begin() + std::min<std::ptrdiff_t>(kStrong, static_cast<std::ptrdiff_t>(ranked.size()));
    if (end != ranked.end()) std::nth_element(ranked.begin(), end - 1, ranked.end(), stronger);
    out.clear();
    out.reserve(static_cast<std::size_t>(end - ranked.begin()));
    for (auto entry = ranked.begin(); entry != end; ++entry) {
        const float fwd =
            entry->source < 0 ? entry->base_fwd : row.fwd_of(row.pairs[static_cast<std::size_t>(entry->source)]);
        out.push_back({entry->neighbor, entry->source, fwd});
    }
}

// The strength of the weakest of `strong`.
double MemoryDelta::weakest_strength(const DeltaRow& row, const MaterializedRow& row_sums) const {
    double weakest = std::numeric_limits<double>::infinity();
    const RowView base = base_.row(row.item);
    for (const StrongPair& strong_pair : row.strong) {
        double pair_strength;
        if (strong_pair.source >= 0) {
            const auto p = static_cast<std::size_t>(strong_pair.source);
            const DeltaPair& pair = row.pairs[p];
            pair_strength = strength(row.base_of(pair), pair.sums, row_sums.rec[p], row_sums);
        } else {
            pair_strength = strength_of_base(base, -1 - strong_pair.source, row_sums);
        }
        weakest = std::min(weakest, pair_strength);
    }
    return weakest;
}

}  // namespace mtaw
