// The tables of past sessions and the delta on top of them, read as one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "compiler.hpp"
#include "memory/tables.hpp"
#include "memory/delta.hpp"

namespace mtaw {

struct StrongNeighbors {
    std::int32_t neighbors[kStrong];
    float fwd[kStrong];
    std::int64_t count;
    float total;  // of fwd, of the whole row
};

// With a delta, its lock must be taken. Without one, the results are those of the tables.
class MergedTables {
   public:
    explicit MergedTables(const MemoryView& tables, const MemoryDelta* delta = nullptr)
        : tables_(tables), delta_(delta) {}

    [[nodiscard]] const DeltaRow* delta_row(std::int64_t item) const {
        return delta_ == nullptr ? nullptr : delta_->find(item);
    }
    [[nodiscard]] RowView row(std::int64_t item) const {
        if (item >= tables_.n_items) return {nullptr, nullptr, nullptr, 0, nullptr};
        return delta_ == nullptr ? row_of(tables_, item) : delta_->base().row(item);
    }

    // S
    [[nodiscard]] std::int64_t n_sessions() const {
        return delta_ == nullptr ? tables_.n_sessions : delta_->n_sessions();
    }
    // The number of the session that a pool's kLatest stands for, among those that are not dropped and without the
    // current one. latest: the session of the tables or, behind these, the stamp of one of the delta's, which rises
    // with its number.
    [[nodiscard]] std::int64_t number_of_latest(std::int64_t latest, const CurrentSession& current) const {
        if (latest < tables_.n_sessions) return delta_->base().number(latest);
        const DeltaSessions& sessions = delta_->sessions();
        // A float may have rounded it up.
        const std::int64_t stamp = std::min<std::int64_t>(latest - tables_.n_sessions, sessions.mark() - 1);
        const std::int64_t position = sessions.position_of_stamp(static_cast<std::int32_t>(stamp));
        return delta_->base().n_sessions() + current.position_without(position);
    }

    // Into out[kCountKinds].
    void counts(std::int64_t item, std::int32_t* out) const {
        if (item < tables_.n_items) {
            const std::int32_t* const base_counts =
                delta_ == nullptr ? tables_.counts + item * kCountKinds : delta_->base().counts(item);
            std::copy_n(base_counts, kCountKinds, out);
            if (delta_ != nullptr) out[kNewest] = static_cast<std::int32_t>(delta_->base().number(out[kNewest]));
        } else {
            std::fill(out, out + kNewest, 0);
            out[kNewest] = -1;
        }
        const DeltaCounts* const delta_counts = delta_ == nullptr ? nullptr : delta_->find_counts(item);
        if (delta_counts == nullptr) return;
        out[kClicks] += delta_counts->clicks;
        out[kSessions] += delta_counts->sessions;
        out[kRepeatedLater] += delta_counts->repeated_later;
        out[kRepeatedAtOnce] += delta_counts->repeated_at_once;
        out[kNewest] = static_cast<std::int32_t>(delta_->newest(item, *delta_counts));
    }
    // The total of ses.
    [[nodiscard]] float ses(std::int64_t item) const {
        if (delta_ != nullptr) return delta_->by_item()[item].ses;
        return item < tables_.n_items ? tables_.totals[item * kPairKinds + kSes] : 0.0F;
    }
    void prefetch_counts(std::int64_t item) const {
        if (item < tables_.n_items) MTAW_PREFETCH(tables_.counts + item * kCountKinds);
        if (const DeltaCounts* const delta_counts = delta_ == nullptr ? nullptr : delta_->find_counts(item)) {
            MTAW_PREFETCH(delta_counts);
        }
    }
    // Prefetches what `counts` needs for the newest session.
    void prefetch_newest(std::int64_t item) const {
        const DeltaCounts* const delta_counts = delta_ == nullptr ? nullptr : delta_->find_counts(item);
        if (delta_counts != nullptr && delta_counts->newest >= 0) {
            delta_->sessions().prefetch_stamp(delta_counts->newest);
        }
    }
    // Where `ses` reads: for item i < count at first[i * stride].
    struct SesTotals {
        const float* first;
        std::int64_t stride, count;
    };
    [[nodiscard]] SesTotals ses_totals() const {
        const std::int64_t count = delta_ == nullptr ? tables_.n_items : delta_->n_catalog();
        if (count == 0) return {nullptr, 0, 0};
        if (delta_ == nullptr) return {tables_.totals + kSes, kPairKinds, count};
        return {&delta_->by_item()->ses, sizeof(MemoryDelta::ItemEntry) / sizeof(float), count};
    }
    // Of the whole row, but not of aa and rec.
    [[nodiscard]] float total(std::int64_t item, PairKind kind) const {
        const RowView base = row(item);
        const DeltaRow* const delta_row = this->delta_row(item);
        const float base_total = base.totals == nullptr ? 0.0F : base.totals[kind];
        return delta_row == nullptr ? base_total
                                    : static_cast<float>(static_cast<double>(base_total) + delta_row->totals[kind]);
    }

    [[nodiscard]] StrongNeighbors strong(std::int64_t item) const;

   private:
    const MemoryView& tables_;
    const MemoryDelta* delta_;
};

inline StrongNeighbors MergedTables::strong(std::int64_t item) const {
    StrongNeighbors out;
    const RowView base = row(item);
    const DeltaRow* const delta_row = this->delta_row(item);
    out.total = total(item, kFwd);
    if (delta_row != nullptr && base.count + static_cast<std::int64_t>(delta_row->pairs.size()) <= kStrong) {
        out.count = 0;
        // A pair of both tables gets two entries; the caller adds them.
        const auto add = [&](std::int32_t neighbor, float fwd) {
            out.neighbors[out.count] = neighbor;
            out.fwd[out.count++] = fwd;
        };
        for (std::int64_t p = 0; p < base.count; ++p)
            add(base.neighbors[p], from_bfloat16(base.values[p * kPairKinds + kFwd]));
        for (const DeltaPair& pair : delta_row->pairs) {
            add(pair.neighbor, delta_row->base_of(pair).increment(kFwd, pair.sums[kFwd]));
        }
        return out;
    }
    if (delta_row == nullptr || (!delta_row->is_stale && delta_row->strong.empty())) {
        out.count = std::min(base.count, kStrong);
        for (std::int64_t p = 0; p < out.count; ++p) {
            out.neighbors[p] = base.neighbors[p];
            out.fwd[p] = from_bfloat16(base.values[p * kPairKinds + kFwd]);
        }
        return out;
    }
    ShortArray<StrongPair> ranked;
    if (delta_row->is_stale) {
        MaterializedRow row_sums;
        delta_->find_strong(*delta_row, ranked, row_sums);
    }
    const ShortArray<StrongPair>& strong = delta_row->is_stale ? ranked : delta_row->strong;
    out.count = static_cast<std::int64_t>(strong.size());
    for (std::int64_t i = 0; i < out.count; ++i) {
        const StrongPair& pair = strong[static_cast<std::size_t>(i)];
        out.neighbors[i] = pair.neighbor;
        out.fwd[i] = pair.fwd;
    }
    return out;
}

}  // namespace mtaw
