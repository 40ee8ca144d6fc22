#include "memory/delta_row.hpp"

#include <algorithm>
#include <cstddef>

#include "memory/bfloat16.hpp"

namespace mtaw {
namespace {

constexpr std::size_t kFew = 12;    // pairs that are looked through
// Sessions of the tables that are gone through for one pair: to undo a rounding, and to find what a cut took away.
constexpr std::int64_t kFewSessions = 64, kManySessions = 512;
constexpr double kMargin = 0.75;    // by which the strongest may have become weaker since they were found

std::size_t bucket_of(std::int32_t neighbor, std::size_t mask) {
    return (static_cast<std::uint32_t>(neighbor) * 0x9E3779B1U >> 7) & mask;
}

// Most rows are short: growing to twice the size would leave a third of the memory unused.
template <typename T>
void make_room(std::vector<T>& array) {
    if (array.size() == array.capacity()) array.reserve(array.size() + array.size() / 8 + 1);
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
    for (std::size_t at = bucket_of(neighbor, mask); index[at] != 0; at = (at + 1) & mask) {
        if (pairs[static_cast<std::size_t>(index[at]) - 1].neighbor == neighbor) return index[at] - 1;
    }
    return -1;
}

std::int32_t DeltaRow::pair_with(std::int32_t neighbor, const BaseRows& base) {
    const std::int32_t found = find(neighbor);
    if (found >= 0) return found;
    make_room(pairs);
    DeltaPair pair{};
    pair.neighbor = neighbor;
    pair.folded_latest = pair.strong_place = -1;
    link(pair, base);
    set_weak(pair, pair.in_base() ? !reads(pair.place) : cut_least > 0);
    pairs.push_back(pair);
    const auto place = static_cast<std::int32_t>(pairs.size());
    if (pairs.size() > kFew && 2 * pairs.size() > index.size()) {
        reindex();
    } else if (!index.empty()) {
        const std::size_t mask = index.size() - 1;
        std::size_t at = bucket_of(neighbor, mask);
        while (index[at] != 0) at = (at + 1) & mask;
        index[at] = place;
    }
    return place - 1;
}

void DeltaRow::reindex() {
    index.clear();
    if (pairs.size() <= kFew) return;
    std::size_t size = 4 * kFew;
    while (size & (size - 1)) size += size & (~size + 1);
    while (size < 3 * pairs.size()) size *= 2;
    index.assign(size, 0);
    for (std::size_t p = 0; p < pairs.size(); ++p) {
        std::size_t at = bucket_of(pairs[p].neighbor, size - 1);
        while (index[at] != 0) at = (at + 1) & (size - 1);
        index[at] = static_cast<std::int32_t>(p) + 1;
    }
}

void DeltaRow::add_term(const DeltaTerm& term) {
    make_room(terms);
    DeltaPair& pair = pairs[static_cast<std::size_t>(term.pair)];
    const auto add = [&](int kind, double value) {
        pair.sums[kind] += value;
        totals[kind] += value;
    };
    if (term.distance != 0) {
        add(term.distance > 0 ? kFwd : kBwd, 1.0 / static_cast<double>(term.distance > 0 ? term.distance : -term.distance));
    }
    if (term.distance == 1) add(kNext, 1.0);
    if (term.same != 0) add(kSes, 1.0);
    round(pair);
    if (pair.weak && max_strength(pair) >= cut_least) strengthen(pair);
    terms.push_back(term);
    risen = risen || (pair.strong_place < 0 && max_strength(pair) > strong_least * kMargin);
}

// Never less than its strength, whose `rec` takes summing: that is at most what fwd and bwd are.
double DeltaRow::max_strength(const DeltaPair& pair) const {
    double most = 0;
    for (const int kind : {kFwd, kBwd, kSes}) {
        most += (pair.whole(kind) + pair.sums[kind]) / (base_totals[kind] + totals[kind] + 1.0);
    }
    const double rec = pair.sums[kFwd] + pair.sums[kBwd] + pair.seeded_rec + pair.whole(kRec);
    return most + std::min(rec / (ranked_totals[kRec] + 1.0), 1.0);
}

void DeltaRow::add_prior(std::int32_t place, const double* values) {
    DeltaPair& pair = pairs[static_cast<std::size_t>(place)];
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        pair.sums[kind] += values[kind];
        totals[kind] += values[kind];
    }
    pair.seeded_aa += values[kAa];
    pair.seeded_rec += values[kRec];
    round(pair);
    strengthen(pair);
    risen = true;
}

void DeltaRow::set_weak(DeltaPair& pair, bool weak) {
    n_weak += (weak ? 1 : 0) - (pair.weak ? 1 : 0);
    pair.weak = weak;
}

void DeltaRow::strengthen(DeltaPair& pair) {
    if (!pair.weak) return;
    set_weak(pair, false);
    if (pair.in_base() && narrowed) base_runs.emplace_back(pair.place, pair.place + 1);
}

bool DeltaRow::reads(std::int32_t place) const {
    return !narrowed || std::any_of(base_runs.begin(), base_runs.end(), [place](const auto& run) {
        return run.first <= place && place < run.second;
    });
}

void DeltaRow::come_last(std::int32_t slot) {
    const auto found = std::find(postings.rbegin(), postings.rend(), slot);
    std::rotate(found.base() - 1, found.base(), postings.end());
}

void DeltaRow::link(DeltaPair& pair, const BaseRows& base) {
    const RowView row = base.row(item);
    const std::int32_t* const end = row.neighbors + row.count;
    const std::int32_t* const found = std::find(row.neighbors, end, pair.neighbor);
    pair.place = found == end ? -1 : static_cast<std::int32_t>(found - row.neighbors);
    std::fill(pair.base, pair.base + kPairKinds, std::uint16_t{0});
    std::fill(pair.rest, pair.rest + kPairKinds, 0.0F);
    if (pair.in_base()) std::copy_n(row.values + pair.place * kPairKinds, kPairKinds, pair.base);
    double sums[kPairKinds];
    const std::int64_t most = pair.in_base() ? kFewSessions : base.is_cut(row) ? kManySessions : 0;
    const bool both = item < base.tables().n_items && pair.neighbor < base.tables().n_items;
    if (most > 0 && both && base.sum_pair(item, pair.neighbor, most, sums)) {
        for (int kind = 0; kind < kPairKinds; ++kind) {
            pair.rest[kind] = static_cast<float>(sums[kind] - static_cast<double>(from_bfloat16(pair.base[kind])));
        }
    }
    round(pair);
}

void DeltaRow::round(DeltaPair& pair) {
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        const float base = from_bfloat16(pair.base[kind]);
        pair.fresh[kind] = from_bfloat16(to_bfloat16(pair.whole(kind) + pair.sums[kind])) - base;
    }
    if (pair.strong_place >= 0) strong[static_cast<std::size_t>(pair.strong_place)].fwd = from_bfloat16(pair.base[kFwd]) + pair.fresh[kFwd];
    *ses = static_cast<float>(base_totals[kSes] + totals[kSes]);
}

void DeltaRow::clear_pairs() {
    pairs.clear();
    strong.clear();
    terms.clear();
    index.clear();
    n_weak = cut_terms = 0;
    folded = unfolded = 0;
    std::fill(totals, totals + kFixedKinds, 0.0);
    *ses = static_cast<float>(base_totals[kSes]);
}

std::int64_t DeltaRow::n_bytes() const {
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    return static_cast<std::int64_t>(sizeof(DeltaRow)) + bytes(pairs) + bytes(terms) + bytes(index) + bytes(postings) +
           bytes(strong) + bytes(priors) + bytes(base_runs);
}

}  // namespace mtaw
