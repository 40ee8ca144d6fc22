// Reads from the delta; callers hold its lock.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdlib>

#include "memory/delta.hpp"
#include "memory/pair_terms.hpp"
#include "memory/tables.hpp"

namespace mtaw {
namespace {

constexpr double kTolerance = 1e-9;  // of a difference of equal sums; far below the least term, 1 / window
constexpr int kValueLanes = 8;       // of DeltaRowView

// To bfloat16 and back: one loop without branches, which compilers vectorize.
void round_values(const double* whole, float* out) {
    for (int lane = 0; lane < kValueLanes; ++lane) {
        const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(whole[lane]));
        out[lane] = std::bit_cast<float>((bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U);
    }
}

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
        if (term.same()) out.aa[p] += sessions_.share(term.session);
        out.last[p] = std::max(out.last[p], sessions_.stamp(term.session));
    }
}

std::int64_t MemoryDelta::newest_of(const DeltaRow& row, const CurrentSession& current) const {
    const std::int64_t newest = this->newest(row.item, *row.counts, current);
    return newest < 0 ? n_sessions() - (current.found() ? 2 : 1) : newest;
}

double MemoryDelta::base_aging(const DeltaRow& row, std::int64_t newest) const {
    return base_.row(row.item).count == 0 ? 1 : aging_(newest - base_.number(base_.counts(row.item)[kNewest]));
}

double MemoryDelta::fold_aging(const DeltaRow& row, std::int64_t newest, const CurrentSession& current) const {
    if (row.folded == 0) return 0;
    return aging_(newest - current.number_without(base_.n_sessions() + sessions_.before(row.fold_mark)));
}

void MemoryDelta::set_totals(const DeltaRow& row, double base_aging, const OwnEvidence* own_evidence,
                             MaterializedRow& out) const {
    const RowView base = base_.row(row.item);
    const auto total = [&](int kind) { return base.totals == nullptr ? 0.0 : static_cast<double>(base.totals[kind]); };
    for (int kind = 0; kind < kFixedKinds; ++kind) {
        out.totals[kind] = static_cast<float>(total(kind) + row.totals[kind] -
                                              (own_evidence == nullptr ? 0.0 : own_evidence->totals[kind]));
    }
    out.totals[kAa] = static_cast<float>(total(kAa) + out.delta_aa);
    out.totals[kRec] = static_cast<float>(total(kRec) * base_aging + out.delta_rec);
    out.set_shares();
}

void MemoryDelta::sum_row(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                          const OwnEvidence* own_evidence) const {
    const std::size_t n_pairs = row.pairs.size();
    const std::int64_t newest = newest_of(row, current);
    out.aa.assign(n_pairs, 0);
    out.rec.assign(n_pairs, 0);
    out.last.assign(n_pairs, -1);
    const double fold_aging = this->fold_aging(row, newest, current);
    for (const PairPast& past : row.pasts) {
        const auto p = static_cast<std::size_t>(past.pair);
        out.aa[p] = past.folded_aa + past.prior_aa;
        out.rec[p] = past.folded_rec * fold_aging + past.prior_rec;
        if (past.folded_latest >= 0) out.last[p] = sessions_.stamp(past.folded_latest);
    }
    sum_terms(row, row.folded, static_cast<std::int64_t>(row.terms.size()), newest, out, current);
    out.delta_aa = out.delta_rec = 0;
    for (std::size_t p = 0; p < n_pairs; ++p) {
        out.delta_aa += out.aa[p];
        out.delta_rec += out.rec[p];
    }
    const double aging = base_aging(row, newest);
    set_totals(row, aging, own_evidence, out);
    out.base_aging = static_cast<float>(aging);
}

RowView MemoryDelta::materialize(const DeltaRow& row, MaterializedRow& out, const CurrentSession& current,
                                 const OwnEvidence* own_evidence) const {
    if (row.merged != nullptr && materialize_merged(row, out, current, own_evidence)) return row.merged->view();
    sum_row(row, out, current, own_evidence);
    const RowView base = base_.row(row.item);
    out.runs.assign(1, {0, static_cast<std::int32_t>(base.count)});
    if (row.narrowed) out.runs = row.rare->base_runs;
    out.start(row.read_count());
    for (std::size_t p = 0; p < row.pairs.size(); ++p) {
        const DeltaPair& pair = row.pairs[p];
        if (pair.weak) continue;
        const PairBase& known = row.base_of(pair);
        out.add(pair, p, known, known, static_cast<double>(out.base_aging), base_.tables().n_sessions, own_evidence);
    }
    return base;
}

void MaterializedRow::add(const DeltaPair& pair, std::size_t i, const PairBase& base, const PairBase& other,
                          double aging, std::int64_t base_sessions, const OwnEvidence* own_evidence) {
    static_assert(kFixedKinds == 4 && kAa == 4 && kRec == 5);
    double whole[kValueLanes] = {pair.sums[0], pair.sums[1], pair.sums[2], pair.sums[3], aa[i], rec[i], 0, 0};
    if (const OwnEvidence::Pair* const own = own_evidence == nullptr ? nullptr : own_evidence->find(pair.neighbor)) {
        double remaining = 0;
        for (int kind = 0; kind < kFixedKinds; ++kind) {
            whole[kind] -= own->sums[kind];
            remaining += whole[kind] + static_cast<double>(base.rest[kind]);
        }
        if (base.index < 0 && remaining < kTolerance) return;
    }
    float before[kValueLanes] = {};
    if (pair.base_at >= 0) {
        for (int kind = 0; kind < kPairKinds; ++kind) {
            const double factor = kind == kRec ? aging : 1.0;
            whole[kind] += base.whole(kind) * factor;
            before[kind] = from_bfloat16(other.values[kind]) * static_cast<float>(factor);
        }
    }
    const auto n = static_cast<std::size_t>(count++);
    float* const out = values.data() + n * kValueLanes;
    round_values(whole, out);
    for (int lane = 0; lane < kValueLanes; ++lane) out[lane] -= before[lane];
    out[kPairKinds] = other.index >= 0 ? 0.0F : 1.0F;
    neighbors[n] = pair.neighbor;
    latest[n] = last[i] < 0 ? 0 : static_cast<std::int32_t>(base_sessions) + last[i] + 1;
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
    MaterializedRow sums;
    sum_row(*row, sums);
    for (std::size_t p = 0; p < row->pairs.size(); ++p) {
        const DeltaPair& pair = row->pairs[p];
        out.neighbors.push_back(pair.neighbor);
        out.values.insert(out.values.end(), pair.sums, pair.sums + kFixedKinds);
        out.values.push_back(sums.aa[p]);
        out.values.push_back(sums.rec[p]);
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
