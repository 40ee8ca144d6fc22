#include "memory/delta_row.hpp"

#include <algorithm>
#include <cstddef>

#include "memory/tables.hpp"
#include "memory/arrays.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kMaxScanned = 12;  // pairs up to which a row is searched without a hash table
// Sessions of the tables that are read for one pair, at most: to undo a rounding, or to find what a cut took away.
constexpr std::int64_t kMaxSessions = 512;
constexpr double kMargin = 0.75;  // by which the strongest may have become weaker since they were found

std::size_t bucket_of(std::int32_t neighbor, std::size_t mask) {
    return (static_cast<std::uint32_t>(neighbor) * 0x9E3779B1U >> 7) & mask;
}

}  // namespace

std::int32_t DeltaRow::find(std::int32_t neighbor) const {
    if (index.empty()) {
        for (std::size_t p = 0; p < pairs.size(); ++p) {
            if (pairs[p].neighbor == neighbor) return static_cast<std::int32_t>(p);
        }
        return -1;
    }
    const std::size_t mask = index.size() - 1;
    for (std::size_t bucket = bucket_of(neighbor, mask); index[bucket] != 0; bucket = (bucket + 1) & mask) {
        if (pairs[static_cast<std::size_t>(index[bucket]) - 1].neighbor == neighbor) return index[bucket] - 1;
    }
    return -1;
}

std::int32_t DeltaRow::pair_with(std::int32_t neighbor, const BaseRows& base) {
    const std::int32_t found = find(neighbor);
    if (found >= 0) return found;
    DeltaPair pair{};
    pair.neighbor = neighbor;
    link(pair, base);
    set_weak(pair, base_of(pair).index >= 0 ? !reads(base_of(pair).index) : cut_least > 0);
    if (merged != nullptr && base_of(pair).index >= 0) {
        const auto begin = merged->neighbors.begin(), end = merged->neighbors.end();
        const auto same = std::find(begin, end, neighbor);
        if (same != end) pair.merged_at = static_cast<std::int16_t>(same - begin);
    }
    pairs.push_back(pair);
    const auto n_pairs = static_cast<std::int32_t>(pairs.size());
    if (pairs.size() > kMaxScanned && 3 * pairs.size() > 2 * index.size()) {
        reindex();
    } else if (!index.empty()) {
        const std::size_t mask = index.size() - 1;
        std::size_t bucket = bucket_of(neighbor, mask);
        while (index[bucket] != 0) bucket = (bucket + 1) & mask;
        index[bucket] = n_pairs;
    }
    return n_pairs - 1;
}

void DeltaRow::reindex() {
    index.clear();
    if (pairs.size() <= kMaxScanned) return;
    std::size_t size = 4 * kMaxScanned;
    while (size & (size - 1)) size += size & (~size + 1);
    while (size < 2 * pairs.size()) size *= 2;
    index.assign(size, 0);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
        std::size_t bucket = bucket_of(pairs[p].neighbor, size - 1);
        while (index[bucket] != 0) bucket = (bucket + 1) & (size - 1);
        index[bucket] = static_cast<std::int32_t>(p) + 1;
    }
}

void DeltaRow::add_term(const DeltaTerm& term) {
    DeltaPair& pair = pairs[static_cast<std::size_t>(term.pair)];
    const auto add = [&](int kind, double value) {
        pair.sums[kind] += value;
        totals[kind] += value;
    };
    const std::int32_t distance = term.distance();
    if (distance != 0) add(distance > 0 ? kFwd : kBwd, 1.0 / static_cast<double>(distance > 0 ? distance : -distance));
    if (distance == 1) add(kNext, 1.0);
    if (term.same()) add(kSes, 1.0);
    refresh(pair);
    set_changed(term.pair);
    if (pair.weak && max_strength(pair) >= cut_least) strengthen(pair);
    terms.push_back(term);
    may_enter_strong = may_enter_strong || (pair.strong_at < 0 && max_strength(pair) > strong_least * kMargin);
}

// Never less than its strength, whose `rec` takes summing: that is at most what fwd and bwd are.
double DeltaRow::max_strength(const DeltaPair& pair) const {
    const PairBase& base = base_of(pair);
    double bound = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        bound += (base.whole(kind) + pair.sums[kind]) / (static_cast<double>(base_totals[kind]) + totals[kind] + 1.0);
    }
    const double rec = pair.sums[kFwd] + pair.sums[kBwd] + past_of(pair).prior_rec + base.whole(kRec);
    return bound + std::min(rec / (ranked_rec + 1.0), 1.0);
}

void DeltaRow::add_prior(std::int32_t pair_index, const double* values) {
    DeltaPair& pair = pairs[static_cast<std::size_t>(pair_index)];
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        pair.sums[kind] += values[kind];
        totals[kind] += values[kind];
    }
    PairPast& past = past_of(pair);
    past.prior_aa += values[kAa];
    past.prior_rec += values[kRec];
    merged.reset();
    refresh(pair);
    strengthen(pair);
    may_enter_strong = true;
}

void DeltaRow::set_changed(std::int32_t pair_index) {
    DeltaPair& pair = pairs[static_cast<std::size_t>(pair_index)];
    if (merged == nullptr || pair.changed) return;
    pair.changed = true;
    merged->changed.push_back(pair_index);
}

void DeltaRow::set_weak(DeltaPair& pair, bool weak) {
    n_weak += (weak ? 1 : 0) - (pair.weak ? 1 : 0);
    pair.weak = weak;
}

void DeltaRow::strengthen(DeltaPair& pair) {
    if (!pair.weak) return;
    set_weak(pair, false);
    const std::int32_t base_index = base_of(pair).index;
    if (base_index >= 0 && narrowed) rare->base_runs.emplace_back(base_index, base_index + 1);
}

bool DeltaRow::reads(std::int32_t base_index) const {
    if (!narrowed) return true;
    return std::any_of(rare->base_runs.begin(), rare->base_runs.end(),
                       [base_index](const auto& run) { return run.first <= base_index && base_index < run.second; });
}

void DeltaRow::move_to_end(std::int32_t slot) {
    const auto found =
        std::find(std::make_reverse_iterator(postings.end()), std::make_reverse_iterator(postings.begin()), slot);
    std::rotate(found.base() - 1, found.base(), postings.end());
}

void DeltaRow::link(DeltaPair& pair, const BaseRows& base) {
    const RowView row = base.row(item);
    const std::int32_t* const end = row.neighbors + row.count;
    const std::int32_t* const found = std::find(row.neighbors, end, pair.neighbor);
    PairBase base_pair = kNoBase;
    if (found != end) {
        base_pair.index = static_cast<std::int32_t>(found - row.neighbors);
        std::copy_n(row.values + base_pair.index * kPairKinds, kPairKinds, base_pair.values);
    }
    double sums[kPairKinds];
    const bool may_have_past = base_pair.index >= 0 || base.is_cut(row);
    const bool both_in_base = item < base.tables().n_items && pair.neighbor < base.tables().n_items;
    bool is_in_base = base_pair.index >= 0;
    if (may_have_past && both_in_base && base.sum_pair(item, pair.neighbor, kMaxSessions, sums)) {
        for (int kind = 0; kind < kPairKinds; ++kind) {
            base_pair.rest[kind] =
                static_cast<float>(sums[kind] - static_cast<double>(from_bfloat16(base_pair.values[kind])));
            is_in_base = is_in_base || base_pair.rest[kind] != 0;
        }
    }
    if (pair.base_at >= 0) {
        bases[static_cast<std::size_t>(pair.base_at)] = base_pair;
    } else if (is_in_base) {
        pair.base_at = static_cast<std::int32_t>(bases.size());
        bases.push_back(base_pair);
    }
    refresh(pair);
}

PairPast& DeltaRow::past_of(DeltaPair& pair) {
    if (pair.past_at < 0) {
        pair.past_at = static_cast<std::int32_t>(pasts.size());
        pasts.push_back(kNoPast);
        pasts.back().pair = static_cast<std::int32_t>(&pair - pairs.data());
    }
    return pasts[static_cast<std::size_t>(pair.past_at)];
}

void DeltaRow::refresh(const DeltaPair& pair) {
    if (pair.strong_at >= 0) strong[static_cast<std::size_t>(pair.strong_at)].fwd = fwd_of(pair);
    set_ses();
}

void DeltaRow::clear_pairs() {
    pairs.clear();
    bases.clear();
    pasts.clear();
    strong.clear();
    terms.clear();
    index.clear();
    merged.reset();
    n_weak = cut_terms = 0;
    folded = unfolded = 0;
    std::fill(totals, totals + kFixedKinds, 0.0);
    set_ses();
}

std::int64_t DeltaRow::n_bytes() const {
    std::int64_t bytes = static_cast<std::int64_t>(sizeof(DeltaRow)) + pairs.n_bytes() + bases.n_bytes() +
                         pasts.n_bytes() + terms.n_bytes() + index.n_bytes() + postings.n_bytes() + strong.n_bytes();
    if (rare != nullptr) {
        bytes += static_cast<std::int64_t>(sizeof(RareParts) + rare->priors.capacity() * sizeof(rare->priors[0]) +
                                           rare->base_runs.capacity() * sizeof(rare->base_runs[0]));
    }
    return bytes + (merged == nullptr ? 0 : merged->n_bytes());
}

}  // namespace mtaw
