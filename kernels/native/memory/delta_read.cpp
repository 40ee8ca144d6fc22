// Reads from the delta; callers hold its lock.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>

#include "memory/delta.hpp"
#include "memory/pair_terms.hpp"
#include "memory/tables.hpp"

namespace mtaw {
namespace {

constexpr double kTolerance = 1e-9;  // of a difference of equal sums; far below the least term, 1 / window

}  // namespace

CurrentSession MemoryDelta::current(const std::int32_t* clicks, std::int64_t n_clicks) const {
    CurrentSession found;
    found.slot = sessions_.find_clicks(clicks, n_clicks);
    if (!found.found()) return found;
    found.stamp = sessions_.stamp(found.slot);
    found.position = sessions_.position(found.slot);
    found.number = base_.n_sessions() + found.position;
    return found;
}

std::int64_t MemoryDelta::newest(std::int64_t item, const DeltaCounts& counts, const CurrentSession& current) const {
    const std::int32_t stamp = counts.newest == current.stamp ? counts.before_newest : counts.newest;
    if (stamp >= 0) return current.number_without(base_.n_sessions() + sessions_.position_of_stamp(stamp));
    return item < base_.tables().n_items ? base_.number(base_.counts(item)[kNewest]) : -1;
}

// Onto aa, rec (as of the session numbered `newest`) and last of `out`.
void MemoryDelta::sum_terms(const DeltaRow& row, std::int64_t begin, std::int64_t end, std::int64_t newest,
                            MaterializedRow& out, const CurrentSession& current) const {
    const std::int64_t age_of_first = newest - base_.n_sessions();
    for (std::int64_t i = begin; i < end; ++i) {
        const DeltaTerm& term = row.terms[static_cast<std::size_t>(i)];
        if (term.session == current.slot) continue;
        const auto p = static_cast<std::size_t>(term.pair);
        const std::int64_t position = current.position_without(sessions_.position(term.session));
        if (term.distance() != 0)
            out.rec[p] += aging_(age_of_first - position) / static_cast<double>(std::abs(term.distance()));
        if (term.same()) out.aa[p] += 1.0 / std::max(sessions_.distinct(term.session) - 1, 1);
        out.last[p] = std::max(out.last[p], position);
    }
}

void MemoryDelta::sum_row(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                          const OwnEvidence* own_evidence) const {
    const std::size_t n_pairs = row.pairs.size();
    const std::int64_t newest_known = this->newest(row.item, *row.counts, current);
    const std::int64_t newest = newest_known < 0 ? n_sessions() - (current.found() ? 2 : 1) : newest_known;
    out.aa.resize(n_pairs);
    out.rec.resize(n_pairs);
    out.last.resize(n_pairs);
    double fold_aging = 0;
    if (row.folded > 0) {
        fold_aging = aging_(newest - current.number_without(base_.n_sessions() + sessions_.before(row.fold_mark)));
    }
    for (std::size_t p = 0; p < n_pairs; ++p) {
        const DeltaPair& pair = row.pairs[p];
        const PairPast& past = row.past_of(pair);
        out.aa[p] = past.folded_aa + past.prior_aa;
        out.rec[p] = past.folded_rec * fold_aging + past.prior_rec;
        out.last[p] = past.folded_latest < 0 ? -1 : current.position_without(sessions_.position(past.folded_latest));
    }
    sum_terms(row, row.folded, static_cast<std::int64_t>(row.terms.size()), newest, out, current);
    double aa = 0, rec = 0;
    for (std::size_t p = 0; p < n_pairs; ++p) {
        aa += out.aa[p];
        rec += out.rec[p];
    }
    const RowView base = base_.row(row.item);
    double aging = 1;
    if (base.count > 0) aging = aging_(newest - base_.number(base_.counts(row.item)[kNewest]));
    const auto total = [&](int kind) { return base.totals == nullptr ? 0.0 : static_cast<double>(base.totals[kind]); };
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        out.totals[kind] = static_cast<float>(total(kind) + row.totals[kind] -
                                              (own_evidence == nullptr ? 0.0 : own_evidence->totals[kind]));
    }
    out.totals[kAa] = static_cast<float>(total(kAa) + aa);
    out.totals[kRec] = static_cast<float>(total(kRec) * aging + rec);
    out.base_aging = static_cast<float>(aging);
}

void MemoryDelta::materialize(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                              const OwnEvidence* own_evidence) const {
    sum_row(row, out, current, own_evidence);
    const std::size_t n_pairs = row.pairs.size();
    out.count = row.read_count();
    out.neighbors.resize(static_cast<std::size_t>(out.count));
    out.latest.resize(static_cast<std::size_t>(out.count));
    out.values.resize(static_cast<std::size_t>(out.count) * 8);
    const auto base_sessions = static_cast<std::int32_t>(base_.tables().n_sessions);
    const auto rounded = [](double value, float before) { return from_bfloat16(to_bfloat16(value)) - before; };
    std::size_t n_written = 0;
    for (std::size_t p = 0; p < n_pairs; ++p) {
        const DeltaPair& pair = row.pairs[p];
        if (pair.weak) continue;
        const PairBase& base = row.base_of(pair);
        float* const values = out.values.data() + n_written * 8;
        if (const OwnEvidence::Pair* const own =
                own_evidence == nullptr ? nullptr : own_evidence->find(pair.neighbor)) {
            double remaining = 0;
            for (int kind = 0; kind < kFixedKinds; ++kind) {
                const double others = pair.sums[kind] - own->sums[kind];
                remaining += others + static_cast<double>(base.rest[kind]);
                values[kind] = base.increment(kind, others);
            }
            if (base.index < 0 && remaining < kTolerance) continue;  // nobody else has clicked both
        } else {
            for (int kind = 0; kind < kFixedKinds; ++kind) values[kind] = base.increment(kind, pair.sums[kind]);
        }
        out.neighbors[n_written] = pair.neighbor;
        out.latest[n_written] = out.last[p] < 0 ? 0 : base_sessions + static_cast<std::int32_t>(out.last[p]) + 1;
        const float base_rec = from_bfloat16(base.values[kRec]) * out.base_aging;
        values[kAa] = base.increment(kAa, out.aa[p]);
        values[kRec] = rounded(base.whole(kRec) * static_cast<double>(out.base_aging) + out.rec[p], base_rec);
        values[kPairKinds] = base.index >= 0 ? 0.0F : 1.0F;
        values[kPairKinds + 1] = 0;
        ++n_written;
    }
    out.count = static_cast<std::int64_t>(n_written);
}

MemoryDelta::Ordered MemoryDelta::ordered() const {
    const ReadLock lock = read();
    Ordered out;
    out.offsets.push_back(0);
    for (const std::int32_t slot : sessions_.ordered()) {
        const DeltaSessions::Session& session = sessions_.at(slot);
        out.handles.push_back(sessions_.handle(slot));
        out.items.insert(out.items.end(), session.clicks.begin(), session.clicks.end());
        out.offsets.push_back(static_cast<std::int64_t>(out.items.size()));
    }
    return out;
}

MemoryDelta::Row MemoryDelta::row(std::int32_t item) const {
    check_item(item);
    const ReadLock lock = read();
    Row out;
    const DeltaRow* const row = find(item);
    if (row == nullptr) return out;
    MaterializedRow materialized;
    materialize(*row, materialized);
    for (std::size_t p = 0; p < row->pairs.size(); ++p) {
        const DeltaPair& pair = row->pairs[p];
        out.neighbors.push_back(pair.neighbor);
        out.values.insert(out.values.end(), pair.sums, pair.sums + kFixedKinds);
        out.values.push_back(materialized.aa[p]);
        out.values.push_back(materialized.rec[p]);
    }
    return out;
}

MemoryDelta::Counts MemoryDelta::counts(std::int32_t item) const {
    check_item(item);
    const ReadLock lock = read();
    const DeltaRow* const row = find(item);
    if (row == nullptr) return {{0, 0, 0, 0, -1}};
    return {{row->counts->clicks, row->counts->sessions, row->counts->repeated_later, row->counts->repeated_at_once,
             row->counts->newest < 0 ? -1 : sessions_.position_of_stamp(row->counts->newest)}};
}

MemoryDelta::Sizes MemoryDelta::sizes() const {
    const ReadLock lock = read();
    Sizes sizes{sessions_.count(), sessions_.n_clicks(), 0, 0, 0, ignored_, base_.n_dropped(), 0};
    const auto bytes = [](const auto& array) {
        return static_cast<std::int64_t>(array.capacity() * sizeof(*array.data()));
    };
    sizes.bytes = sessions_.n_bytes() + base_.n_bytes() + bytes(by_item_) + bytes(touched_) +
                  static_cast<std::int64_t>(counts_.n_bytes());
    for (const DeltaRow& row : rows_) {
        ++sizes.items;
        sizes.pairs += static_cast<std::int64_t>(row.pairs.size());
        sizes.terms += static_cast<std::int64_t>(row.terms.size());
        sizes.bytes += row.n_bytes();
    }
    return sizes;
}

namespace {

double* sums_with(OwnEvidence& row, std::int32_t neighbor) {
    for (OwnEvidence::Pair& pair : row.pairs) {
        if (pair.neighbor == neighbor) return pair.sums;
    }
    row.pairs.push_back({neighbor, {}});
    return row.pairs.back().sums;
}

}  // namespace

void list_own_evidence(const std::int32_t* clicks, std::int64_t n_clicks, const OwnItems& own,
                       const MemorySettings& settings, bool once, std::vector<OwnEvidence>& rows) {
    const std::vector<std::uint8_t> first = first_clicks(clicks, n_clicks);
    if (rows.size() < static_cast<std::size_t>(own.count)) rows.resize(static_cast<std::size_t>(own.count));
    for (std::int64_t u = 0; u < own.count; ++u) {
        OwnEvidence& row = rows[static_cast<std::size_t>(u)];
        row.pairs.clear();
        std::fill_n(row.totals, kFixedKinds, 0.0);
        const auto add = [&](std::int32_t other, int kind, double value) {
            sums_with(row, other)[kind] += value;
            row.totals[kind] += value;
        };
        visit_session(
            own.list[u].item, clicks, n_clicks, first, settings, once,
            [&](std::int32_t other, std::int64_t distance) {
                add(other, distance > 0 ? kFwd : kBwd, 1.0 / static_cast<double>(std::abs(distance)));
                if (distance == 1) add(other, kNext, 1.0);
            },
            [&](std::int32_t other) { add(other, kSes, 1.0); });
    }
}

}  // namespace mtaw
