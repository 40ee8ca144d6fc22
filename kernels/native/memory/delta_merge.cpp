// Merges long rows of tables and delta, so that a query reads one short row instead of both.
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>

#include "memory/delta.hpp"
#include "memory/tables.hpp"

namespace mtaw {
namespace {

constexpr double kMaxAging = 2;        // of a merged rec: far from where the values of an old item could be 0
constexpr std::size_t kFollowed = 32;  // items up to which all pairs of a session count as changed when it goes on

}  // namespace

// After its last click: its part of the row is now that of a later and, if is_longer, of a longer session.
void MemoryDelta::mark_followed(DeltaRow& row, std::int32_t slot, bool is_longer) const {
    const DeltaSessions::Session& session = sessions_.at(slot);
    if (row.merged == nullptr || session.firsts.size() > kFollowed) return;
    const auto item_at = [&](std::int32_t position) { return session.clicks[static_cast<std::size_t>(position)]; };
    std::int64_t own = 0;
    for (const std::int32_t position : session.firsts) {
        if (item_at(position) == row.item) own = position;
    }
    const auto distinct = static_cast<double>(sessions_.distinct(slot));
    const double grown = is_longer && distinct > 2 ? 1 / (distinct - 1) - 1 / (distinct - 2) : 0;
    const std::int64_t n_known = static_cast<std::int64_t>(session.firsts.size()) - (is_longer ? 1 : 0);
    for (std::int64_t i = 0; i < n_known; ++i) {
        const std::int32_t position = session.firsts[static_cast<std::size_t>(i)];
        const std::int32_t pair = row.find(item_at(position));
        if (pair < 0) continue;
        row.set_changed(pair);
        if (std::abs(position - own) <= base_.settings().span) row.merged->aa += grown;
    }
}

// row_sums_: the row's.
void MemoryDelta::merge_row(DeltaRow& row) {
    const RowView base = base_.row(row.item);
    for (DeltaPair& pair : row.pairs) {
        pair.merged_at = -1;
        pair.changed = false;
    }
    const auto most = static_cast<std::size_t>(base.count + row.read_count());
    if (row.counts->newest < 0 || most > std::numeric_limits<std::int16_t>::max()) {
        row.merged.reset();
        return;
    }
    if (row.merged == nullptr) row.merged = std::make_unique<MergedRow>();
    MergedRow& merged = *row.merged;
    merged.neighbors.clear();
    merged.latest.clear();
    merged.values.clear();
    merged.changed.clear();
    merged.neighbors.reserve(most);
    merged.latest.reserve(most);
    merged.values.reserve(most * kPairKinds);
    merged.aa = row_sums_.delta_aa;
    merged.rec = row_sums_.delta_rec;
    merged.newest = row.counts->newest;
    merged.n_terms = static_cast<std::int64_t>(row.terms.size());
    const auto base_aging = static_cast<double>(row_sums_.base_aging);
    const auto add_pair = [&](std::size_t p) {
        DeltaPair& pair = row.pairs[p];
        const PairBase& known = row.base_of(pair);
        pair.merged_at = static_cast<std::int16_t>(merged.neighbors.size());
        merged.neighbors.push_back(pair.neighbor);
        merged.latest.push_back(row_sums_.last[p] >= 0
                                    ? static_cast<std::int32_t>(base_.tables().n_sessions) + row_sums_.last[p]
                                : known.index >= 0 ? base.latest[known.index]
                                                   : -1);
        for (int kind = 0; kind < kFixedKinds; ++kind)
            merged.values.push_back(to_bfloat16(known.whole(kind) + pair.sums[kind]));
        merged.values.push_back(to_bfloat16(known.whole(kAa) + row_sums_.aa[p]));
        merged.values.push_back(to_bfloat16(known.whole(kRec) * base_aging + row_sums_.rec[p]));
    };
    static_assert(kRec == kPairKinds - 1 && kAa == kRec - 1 && kFixedKinds == kAa);
    std::vector<std::int32_t> pair_of(static_cast<std::size_t>(base.count), -1);  // by the index of the base's row
    for (std::size_t p = 0; p < row.pairs.size(); ++p) {
        const std::int32_t index = row.base_of(row.pairs[p]).index;
        if (index >= 0) pair_of[static_cast<std::size_t>(index)] = static_cast<std::int32_t>(p);
    }
    const auto add_run = [&](std::int32_t begin, std::int32_t end) {
        for (std::int32_t i = begin; i < end; ++i) {
            const std::int32_t p = pair_of[static_cast<std::size_t>(i)];
            if (p >= 0) {
                add_pair(static_cast<std::size_t>(p));
                continue;
            }
            merged.neighbors.push_back(base.neighbors[i]);
            merged.latest.push_back(base.latest[i]);
            const std::uint16_t* const values = base.values + std::int64_t{i} * kPairKinds;
            merged.values.insert(merged.values.end(), values, values + kRec);
            merged.values.push_back(to_bfloat16(static_cast<double>(from_bfloat16(values[kRec])) * base_aging));
        }
    };
    if (row.narrowed) {
        for (const auto& [begin, end] : row.rare->base_runs) add_run(begin, end);
    } else {
        add_run(0, static_cast<std::int32_t>(base.count));
    }
    for (std::size_t p = 0; p < row.pairs.size(); ++p) {
        if (!row.pairs[p].weak && row.base_of(row.pairs[p]).index < 0) add_pair(p);
    }
}

bool MemoryDelta::materialize_merged(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                                     const OwnEvidence* own_evidence) const {
    const MergedRow& merged = *row.merged;
    const std::int64_t newest = newest_of(row, current), base_sessions = base_.tables().n_sessions;
    const double aging = aging_(newest - current.number_without(base_.n_sessions() + sessions_.before(merged.newest)));
    if (aging > kMaxAging) return false;
    const auto pair_at = [&](std::int32_t p) -> const DeltaPair& { return row.pairs[static_cast<std::size_t>(p)]; };
    out.chosen = merged.changed;
    for (std::size_t i = 0; own_evidence != nullptr && i < own_evidence->pairs.size(); ++i) {
        const std::int32_t p = row.find(own_evidence->pairs[i].neighbor);
        if (p >= 0 && !pair_at(p).changed) out.chosen.push_back(p);
    }
    std::sort(out.chosen.begin(), out.chosen.end(), [&](std::int32_t x, std::int32_t y) {
        return pair_at(x).merged_at != pair_at(y).merged_at ? pair_at(x).merged_at < pair_at(y).merged_at : x < y;
    });
    const std::size_t n_chosen = out.chosen.size();
    out.aa.resize(n_chosen);
    out.rec.resize(n_chosen);
    out.last.resize(n_chosen);
    out.chosen_at.assign(row.pairs.size(), 0);
    const double fold_aging = this->fold_aging(row, newest, current);
    for (std::size_t i = 0; i < n_chosen; ++i) {
        out.chosen_at[static_cast<std::size_t>(out.chosen[i])] = static_cast<std::int32_t>(i + 1);
        const PairPast& past = row.past_of(pair_at(out.chosen[i]));
        out.aa[i] = past.folded_aa + past.prior_aa;
        out.rec[i] = past.folded_rec * fold_aging + past.prior_rec;
        out.last[i] = past.folded_latest < 0 ? -1 : sessions_.stamp(past.folded_latest);
    }
    out.delta_aa = merged.aa;
    if (own_evidence != nullptr) out.delta_aa -= own_evidence->totals[kSes] * sessions_.share(current.slot);
    out.delta_rec = merged.rec * aging;
    const auto n_terms = static_cast<std::int64_t>(row.terms.size());
    for (std::int64_t t = row.folded; t < n_terms; ++t) {
        const DeltaTerm& term = row.terms[static_cast<std::size_t>(t)];
        const auto at = static_cast<std::size_t>(out.chosen_at[static_cast<std::size_t>(term.pair)]);
        if (at == 0) continue;
        const bool is_own = term.session == current.slot, is_merged = t < merged.n_terms;
        const std::int64_t position = current.position_without(sessions_.position(term.session));
        const double rec = term.distance() == 0 ? 0
                                                : aging_(newest - base_.n_sessions() - position) /
                                                      static_cast<double>(std::abs(term.distance()));
        const double aa = term.same() ? sessions_.share(term.session) : 0;
        if (is_own == is_merged) out.delta_rec += is_own ? -rec : rec;  // it left, or it came
        if (is_own) continue;
        out.aa[at - 1] += aa;
        out.rec[at - 1] += rec;
        out.last[at - 1] = std::max(out.last[at - 1], sessions_.stamp(term.session));
    }
    out.delta_aa = std::max(out.delta_aa, 0.0);
    out.delta_rec = std::max(out.delta_rec, 0.0);
    const double base_aging = this->base_aging(row, newest);
    set_totals(row, base_aging, own_evidence, out);
    out.base_aging = static_cast<float>(aging);

    out.runs.clear();
    out.start(static_cast<std::int64_t>(n_chosen));
    const RowView base = base_.row(row.item);
    std::int32_t next = 0;
    for (std::size_t i = 0; i < n_chosen; ++i) {
        const DeltaPair& pair = pair_at(out.chosen[i]);
        if (pair.merged_at >= 0) {
            if (pair.merged_at > next) out.runs.emplace_back(next, pair.merged_at);
            next = pair.merged_at + 1;
        }
        if (pair.weak) continue;
        const PairBase& known = row.base_of(pair);
        const std::int64_t before = out.count;
        out.add(pair, i, known, kNoBase, base_aging, base_sessions, own_evidence);
        if (out.count == before || known.index < 0) continue;
        std::int32_t& latest = out.latest[static_cast<std::size_t>(before)];
        latest = std::max(latest, base.latest[known.index] + 1);
    }
    const auto count = static_cast<std::int32_t>(merged.neighbors.size());
    if (next < count) out.runs.emplace_back(next, count);
    return true;
}

}  // namespace mtaw
