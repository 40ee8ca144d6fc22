// The tables of past sessions and the delta on top of them, read as one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "compiler.hpp"
#include "memory/tables.hpp"
#include "memory/delta.hpp"
#include "memory/pair_terms.hpp"

namespace mtaw {

// The latest sessions with an item: those of the tables, ascending, of which some may be gone, and slots of the delta.
struct Postings {
    const std::int32_t* base;
    std::int64_t n_base;
    const std::int32_t* delta;
    std::int64_t n_delta;
};

struct StrongNeighbors {
    std::int32_t neighbors[kStrong];
    float fwd[kStrong];
    std::int64_t count;
    float total;  // of fwd, of the whole row
};

// A session's id in a query is its index in the tables or, behind these, its slot in the delta.
//
// With a delta, its lock must be taken. Without one, the results are those of the tables.
class MergedTables {
   public:
    explicit MergedTables(const MemoryView& tables, const MemoryDelta* delta = nullptr)
        : tables_(tables), delta_(delta) {}

    [[nodiscard]] const MemoryView& tables() const { return tables_; }
    [[nodiscard]] const MemoryDelta* delta() const { return delta_; }
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
    // The session's number among those that are not dropped. raw: its index in the tables or, after these, in the
    // delta.
    [[nodiscard]] std::int64_t number_of_raw(std::int64_t raw) const {
        if (delta_ == nullptr || delta_->base().n_dropped() == 0) return raw;
        const BaseRows& base = delta_->base();
        return raw < tables_.n_sessions ? base.number(raw) : raw - base.n_dropped();
    }
    [[nodiscard]] bool has_gaps() const { return delta_ != nullptr && delta_->base().n_dropped() > 0; }
    [[nodiscard]] bool is_dropped(std::int64_t session) const { return delta_->base().is_dropped(session); }
    [[nodiscard]] std::int64_t number(std::int32_t session) const {
        if (session < tables_.n_sessions) return number_of_raw(session);
        return delta_->base().n_sessions() + delta_->sessions().position(slot_of_session(session));
    }
    [[nodiscard]] SessionClicks clicks(std::int32_t session) const {
        if (session < tables_.n_sessions) {
            const std::int64_t begin = tables_.session_offsets[session];
            return {tables_.session_items + begin, tables_.session_offsets[session + 1] - begin};
        }
        const auto& clicks = delta_->sessions().at(slot_of_session(session)).clicks;
        return {clicks.data(), static_cast<std::int64_t>(clicks.size())};
    }

    // The clicks that count when items are found by a similar session: of one that counts a pair once, the first click
    // on each item. firsts: working memory, which the result may point to.
    SessionClicks counting_clicks(std::int32_t session, std::vector<std::int32_t>& firsts) const {
        const SessionClicks all = clicks(session);
        if (session < tables_.once_from) return all;
        if (session < tables_.n_sessions) {
            list_firsts(all.clicks, all.count, firsts);
        } else {
            firsts = delta_->sessions().at(slot_of_session(session)).firsts;
        }
        if (static_cast<std::int64_t>(firsts.size()) == all.count) return all;
        for (std::int32_t& first : firsts) first = all.clicks[first];
        return {firsts.data(), static_cast<std::int64_t>(firsts.size())};
    }

    // Into out[kCountKinds].
    void counts(std::int64_t item, std::int32_t* out) const {
        if (item < tables_.n_items) {
            const std::int32_t* const base_counts =
                delta_ == nullptr ? tables_.counts + item * kCountKinds : delta_->base().counts(item);
            std::copy_n(base_counts, kCountKinds, out);
            if (out[kNewest] >= 0) out[kNewest] = static_cast<std::int32_t>(number_of_raw(out[kNewest]));
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
    void prefetch_session(std::int32_t session) const {
        if (session < tables_.n_sessions) {
            MTAW_PREFETCH(tables_.session_offsets + session);
        } else {
            delta_->sessions().prefetch(slot_of_session(session));
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
    // The latest ones, at most max_postings.
    [[nodiscard]] Postings postings(std::int64_t item) const {
        Postings postings{nullptr, 0, nullptr, 0};
        if (item < tables_.n_items) {
            const std::int64_t begin = tables_.post_offsets[item];
            postings.base = tables_.postings + begin;
            postings.n_base = tables_.post_offsets[item + 1] - begin;
        }
        const DeltaRow* const delta_row = this->delta_row(item);
        if (delta_row == nullptr) return postings;
        const std::int64_t max_postings = delta_->base().settings().max_postings;
        postings.n_delta = static_cast<std::int64_t>(delta_row->postings.size());
        if (max_postings > 0) postings.n_delta = std::min(postings.n_delta, max_postings);
        postings.delta =
            delta_row->postings.data() + delta_row->postings.size() - static_cast<std::size_t>(postings.n_delta);
        if (max_postings == 0) return postings;
        // Fills up with sessions of the tables.
        std::int64_t begin = postings.n_base, missing = max_postings - postings.n_delta;
        if (!has_gaps()) {
            begin = std::max<std::int64_t>(begin - missing, 0);
        } else {
            while (begin > 0 && missing > 0) missing -= is_dropped(postings.base[--begin]) ? 0 : 1;
        }
        postings.base += begin;
        postings.n_base -= begin;
        return postings;
    }

    [[nodiscard]] StrongNeighbors strong(std::int64_t item) const;

   private:
    [[nodiscard]] std::int32_t slot_of_session(std::int32_t session) const {
        return session - static_cast<std::int32_t>(tables_.n_sessions);
    }

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
    std::vector<StrongPair> ranked;
    if (delta_row->is_stale) {
        MaterializedRow row_sums;
        delta_->find_strong(*delta_row, ranked, row_sums);
    }
    const std::vector<StrongPair>& strong = delta_row->is_stale ? ranked : delta_row->strong;
    out.count = static_cast<std::int64_t>(strong.size());
    for (std::int64_t i = 0; i < out.count; ++i) {
        const StrongPair& pair = strong[static_cast<std::size_t>(i)];
        out.neighbors[i] = pair.neighbor;
        out.fwd[i] = pair.fwd;
    }
    return out;
}

}  // namespace mtaw
