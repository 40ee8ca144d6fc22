// Keeps rows of the delta short to read: folded terms, strongest neighbors, latest postings.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "memory/bfloat16.hpp"
#include "memory/delta.hpp"

namespace mtaw {
namespace {

// A row's terms are summed by every query that holds its item, 5 ns each, until there are so many that they are folded:
// kFewTerms, or one in kTermShare of all, so that folding costs a term at most kTermShare times its own sum. Folded
// terms no longer follow their session: if it continues, their aa and rec stay as they were until everything is folded
// again. So the sessions clicked last, the likeliest to continue, are left out: kUnsettled, or a share of `recency`.
constexpr std::int64_t kFewTerms = 512, kTermShare = 32, kUnsettled = 256;
constexpr double kUnsettledShare = 1.0 / 32;
constexpr double kRankGrowth = 1 + 1.0 / 64;      // of the totals, after which the strongest are found again in any case
constexpr std::size_t kSmallRow = 64;        // pairs up to which they are found again for every event
constexpr double kRounded = 1 + 0x1p-8, kBelow = 1 - 0x1p-40;
constexpr std::int64_t kPostingShare = 16;  // postings are sorted again after one new one in so many

}  // namespace

// Called for every row that an event changed, once its terms are in.
void MemoryDelta::touch(DeltaRow& row) {
    const auto n_terms = static_cast<std::int64_t>(row.terms.size());
    if (n_terms - row.folded > row.unfolded + std::max(kFewTerms, n_terms / kTermShare)) fold(row);
    if (base_.row(row.item).count + static_cast<std::int64_t>(row.pairs.size()) <= kStrong) {
        row.risen = false;  // all of them are
        row.strong.clear();
        mark_strong(row);
    } else if (!row.is_stale && (row.risen || row.pairs.size() <= kSmallRow || outgrown(row))) {
        row.is_stale = true;
        stale_.push_back(row.item);
    }
    if (row.unsorted * kPostingShare >= static_cast<std::int64_t>(row.postings.size())) sort_postings(row);
    longest_row_ = std::max(longest_row_, row.read_count());
    longest_postings_ = std::max(longest_postings_, static_cast<std::int64_t>(row.postings.size()));
}

void MemoryDelta::mark_strong(DeltaRow& row) {
    for (DeltaPair& pair : row.pairs) pair.strong_place = -1;
    for (std::size_t i = 0; i < row.strong.size(); ++i) {
        if (row.strong[i].pair >= 0) {
            row.pairs[static_cast<std::size_t>(row.strong[i].pair)].strong_place = static_cast<std::int32_t>(i);
        }
    }
}

// A query finds the strongest of what is stale itself: once for many events is enough for all the others. It is done by
// the count of events, so that their portioning changes nothing.
void MemoryDelta::rank_stale() {
    for (const std::int32_t item : stale_) {
        DeltaRow& row = row_at(item);
        find_strong(row, row.strong, fresh_);
        row.strong_least = row.strong.size() < static_cast<std::size_t>(kStrong) ? -1 : least_of(row, fresh_);
        mark_strong(row);
        std::copy_n(fresh_.totals, kPairKinds, row.ranked_totals);
        row.risen = row.is_stale = false;
    }
    stale_.clear();
}

void MemoryDelta::fold(DeltaRow& row) {
    const std::int64_t unsettled =
        std::max(kUnsettled, static_cast<std::int64_t>(std::min(base_.settings().recency * kUnsettledShare, 0x1p40)));
    const std::int64_t settled = std::max<std::int64_t>(sessions_.count() - unsettled, 0);
    const auto rest = std::stable_partition(row.terms.begin(), row.terms.end(), [&](const DeltaTerm& term) {
        return sessions_.place(term.session) < settled;
    });
    row.folded = rest - row.terms.begin();
    row.unfolded = row.terms.end() - rest;
    const auto n_pairs = row.pairs.size();
    fresh_.aa.assign(n_pairs, 0);
    fresh_.rec.assign(n_pairs, 0);
    fresh_.last.assign(n_pairs, -1);
    sum_terms(row, 0, row.folded, base_.n_sessions() + settled - 1, fresh_);
    const std::vector<std::int32_t> slots = sessions_.ordered();
    for (std::size_t p = 0; p < n_pairs; ++p) {
        DeltaPair& pair = row.pairs[p];
        pair.folded_aa = fresh_.aa[p];
        pair.folded_rec = fresh_.rec[p];
        pair.folded_latest = fresh_.last[p] < 0 ? -1 : slots[static_cast<std::size_t>(fresh_.last[p])];
    }
    // Ages count from the last session that is folded, whatever becomes of those behind it.
    row.fold_mark = sessions_.mark_before(slots[static_cast<std::size_t>(settled)]);
    cut(row);
}

// As many neighbors as the tables keep come first, the strongest; a query reads these and those that are met later.
void MemoryDelta::cut(DeltaRow& row) {
    const std::size_t n_pairs = row.pairs.size();
    row.kept = row.fresh_from = static_cast<std::int32_t>(n_pairs);
    const std::int64_t most = base_.settings().max_neighbors;
    if (most == 0 || static_cast<std::int64_t>(n_pairs) <= most) return;
    sum_row(row, fresh_);
    std::vector<double> strengths(n_pairs);
    for (std::size_t p = 0; p < n_pairs; ++p) strengths[p] = strength(row.pairs[p], fresh_.rec[p], fresh_);
    std::vector<std::int32_t> order(n_pairs), place(n_pairs);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        const double x = strengths[static_cast<std::size_t>(a)], y = strengths[static_cast<std::size_t>(b)];
        return x != y ? x > y : row.pairs[static_cast<std::size_t>(a)].neighbor < row.pairs[static_cast<std::size_t>(b)].neighbor;
    });
    std::vector<DeltaPair> pairs;
    pairs.reserve(row.pairs.capacity());
    for (std::size_t p = 0; p < n_pairs; ++p) {
        pairs.push_back(row.pairs[static_cast<std::size_t>(order[p])]);
        place[static_cast<std::size_t>(order[p])] = static_cast<std::int32_t>(p);
    }
    row.pairs = std::move(pairs);
    for (DeltaTerm& term : row.terms) term.pair = place[static_cast<std::size_t>(term.pair)];
    for (StrongPair& one : row.strong) {
        if (one.pair >= 0) one.pair = place[static_cast<std::size_t>(one.pair)];
    }
    row.reindex();
    row.kept = static_cast<std::int32_t>(most);
}

bool MemoryDelta::outgrown(const DeltaRow& row) {
    const auto now = [&](int kind) { return row.base_totals[kind] + row.totals[kind] + 1.0; };
    return now(kFwd) + now(kBwd) + now(kSes) >
           kRankGrowth * (row.ranked_totals[kFwd] + row.ranked_totals[kBwd] + row.ranked_totals[kSes] + 3.0);
}

// What there is to know of a row before anything is added to it.
void MemoryDelta::start(DeltaRow& row) const {
    const RowView base = base_.row(row.item);
    if (base.totals == nullptr) return;
    const std::int64_t newest = base_.number(base_.counts(row.item)[kNewest]);
    FreshRow now;
    now.base_aging = static_cast<float>(aging_(n_sessions() - 1 - newest));
    std::copy_n(base.totals, kPairKinds, now.totals);
    now.totals[kRec] *= now.base_aging;
    std::copy_n(now.totals, kPairKinds, row.ranked_totals);
    std::copy_n(base.totals, kFixedKinds, row.base_totals);
    *row.ses = static_cast<float>(row.base_totals[kSes] + row.totals[kSes]);
    if (base.count < kStrong) return;
    DeltaPair last{};
    std::copy_n(base.values + (kStrong - 1) * kPairKinds, kPairKinds, last.base);
    row.strong_least = strength(last, 0, now);
}

// By what a rebuilt row would be ordered by; rec: the delta's, as of `totals`.
double MemoryDelta::strength(const DeltaPair& pair, double rec, const FreshRow& row) {
    double sum = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        sum += (pair.whole(kind) + pair.sums[kind]) / (static_cast<double>(row.totals[kind]) + 1.0);
    }
    const double whole = pair.whole(kRec) * static_cast<double>(row.base_aging) + rec;
    return sum + whole / (static_cast<double>(row.totals[kRec]) + 1.0);
}

void MemoryDelta::find_strong(const DeltaRow& row, std::vector<StrongPair>& out, FreshRow& fresh) const {
    struct Ranked {
        double strength;
        StrongPair pair;
    };
    sum_row(row, fresh);
    std::vector<Ranked> ranked;
    const auto n_pairs = static_cast<std::int32_t>(row.pairs.size());
    ranked.reserve(static_cast<std::size_t>(n_pairs) + 2 * kStrong);
    for (std::int32_t p = 0; p < n_pairs; ++p) {
        const DeltaPair& pair = row.pairs[static_cast<std::size_t>(p)];
        ranked.push_back({strength(pair, fresh.rec[static_cast<std::size_t>(p)], fresh), {pair.neighbor, p, from_bfloat16(pair.base[kFwd]) + pair.fresh[kFwd]}});
    }
    // Its order under the base's totals is nearly that under both; where the values' roundings could have turned two
    // around it is right.
    const RowView base = base_.row(row.item);
    std::int64_t others = 0;
    double before = 0;
    for (std::int64_t p = 0; p < base.count && others < 2 * kStrong; ++p) {
        if (row.find(base.neighbors[p]) >= 0) continue;
        ++others;
        DeltaPair pair{};
        std::copy_n(base.values + p * kPairKinds, kPairKinds, pair.base);
        const double found = strength(pair, 0, fresh);
        before = found >= before && found <= before * kRounded ? before * kBelow : found;
        ranked.push_back({before, {base.neighbors[p], -1, from_bfloat16(pair.base[kFwd])}});
    }
    const auto stronger = [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.pair.neighbor < y.pair.neighbor;
    };
    const auto end = ranked.begin() + std::min<std::ptrdiff_t>(kStrong, static_cast<std::ptrdiff_t>(ranked.size()));
    if (end != ranked.end()) std::nth_element(ranked.begin(), end - 1, ranked.end(), stronger);
    out.clear();
    out.reserve(kStrong);
    for (auto one = ranked.begin(); one != end; ++one) out.push_back(one->pair);
}

// The strength of the weakest of `strong`.
double MemoryDelta::least_of(const DeltaRow& row, const FreshRow& fresh) const {
    double least = std::numeric_limits<double>::infinity();
    const RowView base = base_.row(row.item);
    for (const StrongPair& one : row.strong) {
        if (one.pair >= 0) {
            const auto p = static_cast<std::size_t>(one.pair);
            least = std::min(least, strength(row.pairs[p], fresh.rec[p], fresh));
        } else {
            DeltaPair pair{};
            const std::int32_t* const at = std::find(base.neighbors, base.neighbors + base.count, one.neighbor);
            std::copy_n(base.values + (at - base.neighbors) * kPairKinds, kPairKinds, pair.base);
            least = std::min(least, strength(pair, 0, fresh));
        }
    }
    return least;
}

// Only where a query does not take all of them their order matters.
void MemoryDelta::sort_postings(DeltaRow& row) {
    row.unsorted = 0;
    const std::int64_t most = base_.settings().max_postings;
    if (most == 0 || static_cast<std::int64_t>(row.postings.size()) <= most) return;
    std::sort(row.postings.begin(), row.postings.end(),
              [&](std::int32_t a, std::int32_t b) { return sessions_.place(a) < sessions_.place(b); });
}

}  // namespace mtaw
