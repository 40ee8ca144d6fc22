// How a row of the delta is kept short to read: folded terms, the strongest neighbours, the latest postings.
#include <algorithm>
#include <cstddef>
#include <numeric>

#include "memory/bfloat16.hpp"
#include "memory/delta.hpp"

namespace mtaw {
namespace {

// A row's terms are summed by every query that holds its item, 5 ns each, until there are so many that they are folded:
// kFewTerms, or one in kTermShare of all, so that folding costs a term at most kTermShare times its own sum.
constexpr std::int64_t kFewTerms = 512, kTermShare = 32;
constexpr std::int64_t kRankShare = 4;      // the strongest are found again at the latest after one new term in so many
constexpr std::int64_t kPostingShare = 16;  // postings are sorted again after one new one in so many

}  // namespace

// Called for every row that an event changed, once its terms are in.
void MemoryDelta::touch(DeltaRow& row) {
    const auto n_terms = static_cast<std::int64_t>(row.terms.size());
    if (n_terms - row.folded > std::max(kFewTerms, n_terms / kTermShare)) fold(row);
    if (row.risen || (row.unranked > 0 && row.unranked * kRankShare >= n_terms)) rank_strong(row);
    if (row.unsorted * kPostingShare >= static_cast<std::int64_t>(row.postings.size())) sort_postings(row);
    longest_row_ = std::max(longest_row_, row.read_count());
    longest_postings_ = std::max(longest_postings_, static_cast<std::int64_t>(row.postings.size()));
}

void MemoryDelta::fold(DeltaRow& row) {
    const auto n_pairs = row.pairs.size();
    fresh_.aa.assign(n_pairs, 0);
    fresh_.rec.assign(n_pairs, 0);
    fresh_.last.assign(n_pairs, -1);
    sum_terms(row, 0, static_cast<std::int64_t>(row.terms.size()), n_sessions() - 1, fresh_);
    const std::vector<std::int32_t> slots = sessions_.ordered();
    for (std::size_t p = 0; p < n_pairs; ++p) {
        DeltaPair& pair = row.pairs[p];
        pair.folded_aa = fresh_.aa[p];
        pair.folded_rec = fresh_.rec[p];
        pair.folded_latest = fresh_.last[p] < 0 ? -1 : slots[static_cast<std::size_t>(fresh_.last[p])];
    }
    row.folded = static_cast<std::int64_t>(row.terms.size());
    row.fold_mark = sessions_.mark();
    cut(row);
}

// As many neighbours as the tables keep come first, the strongest; a query reads these and those that are met later.
void MemoryDelta::cut(DeltaRow& row) {
    const std::size_t n_pairs = row.pairs.size();
    row.kept = row.fresh_from = static_cast<std::int32_t>(n_pairs);
    const std::int64_t most = base_.settings().max_neighbours;
    if (most == 0 || static_cast<std::int64_t>(n_pairs) <= most) return;
    materialise(row, fresh_);
    std::vector<double> strengths(n_pairs);
    for (std::size_t p = 0; p < n_pairs; ++p) strengths[p] = strength(row.pairs[p], fresh_.rec[p], fresh_);
    std::vector<std::int32_t> order(n_pairs), place(n_pairs);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        const double x = strengths[static_cast<std::size_t>(a)], y = strengths[static_cast<std::size_t>(b)];
        return x != y ? x > y : row.pairs[static_cast<std::size_t>(a)].neighbour < row.pairs[static_cast<std::size_t>(b)].neighbour;
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

// By what a rebuilt row would be ordered by; rec: the delta's, as of `totals`.
double MemoryDelta::strength(const DeltaPair& pair, double rec, const FreshRow& row) {
    double sum = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        sum += (static_cast<double>(from_bfloat16(pair.base[kind])) + pair.sums[kind]) /
               (static_cast<double>(row.totals[kind]) + 1.0);
    }
    const double whole = static_cast<double>(from_bfloat16(pair.base[kRec]) * row.base_aging) + rec;
    return sum + whole / (static_cast<double>(row.totals[kRec]) + 1.0);
}

void MemoryDelta::rank_strong(DeltaRow& row) {
    materialise(row, fresh_);
    std::vector<Ranked>& ranked = ranked_;
    ranked.clear();
    const auto n_pairs = static_cast<std::int32_t>(row.pairs.size());
    for (std::int32_t p = 0; p < n_pairs; ++p) {
        const DeltaPair& pair = row.pairs[static_cast<std::size_t>(p)];
        ranked.push_back({strength(pair, fresh_.rec[static_cast<std::size_t>(p)], fresh_), {pair.neighbour, p, 0}});
    }
    // Its order under the base's totals is nearly that under both.
    const RowView base = base_.row(row.item);
    std::int64_t others = 0;
    for (std::int64_t p = 0; p < base.count && others < 2 * kStrong; ++p) {
        if (row.find(base.neighbours[p]) >= 0) continue;
        ++others;
        DeltaPair pair{};
        std::copy_n(base.values + p * kPairKinds, kPairKinds, pair.base);
        ranked.push_back({strength(pair, 0, fresh_), {base.neighbours[p], -1, from_bfloat16(pair.base[kFwd])}});
    }
    const auto stronger = [](const Ranked& x, const Ranked& y) {
        return x.strength != y.strength ? x.strength > y.strength : x.pair.neighbour < y.pair.neighbour;
    };
    const auto end = ranked.begin() + std::min<std::ptrdiff_t>(kStrong, static_cast<std::ptrdiff_t>(ranked.size()));
    std::partial_sort(ranked.begin(), end, ranked.end(), stronger);
    row.strong.clear();
    row.strong.reserve(static_cast<std::size_t>(end - ranked.begin()));
    for (auto one = ranked.begin(); one != end; ++one) row.strong.push_back(one->pair);
    row.strong_least = end == ranked.end() ? -1 : (end - 1)->strength;
    for (DeltaPair& pair : row.pairs) pair.is_strong = false;
    for (const StrongPair& one : row.strong) {
        if (one.pair >= 0) row.pairs[static_cast<std::size_t>(one.pair)].is_strong = true;
    }
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        row.base_totals[kind] = base.totals == nullptr ? 0.0 : static_cast<double>(base.totals[kind]);
    }
    row.rec_bound = static_cast<double>(fresh_.totals[kRec]) + 1.0;
    row.risen = false;
    row.unranked = 0;
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
