// The tables of past sessions and the delta on top of them, read as one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "compiler.hpp"
#include "memory/bfloat16.hpp"
#include "memory/delta.hpp"
#include "memory/pair_terms.hpp"

namespace mtaw {

// The latest sessions with an item: those of the tables, ascending, of which some may be gone, and slots of the delta.
struct Postings {
    const std::int32_t* base;
    std::int64_t n_base;
    const std::int32_t* fresh;
    std::int64_t n_fresh;
};

struct StrongNeighbors {
    std::int32_t neighbors[kStrong];
    float fwd[kStrong];
    std::int64_t count;
    float total;  // of fwd, of the whole row
};

// A session's id in a query is its place in the tables or, behind these, its slot in the delta.
//
// With a delta, its lock must be taken. Without one, the results are those of the tables.
class MergedTables {
  public:
    explicit MergedTables(const MemoryView& tables, const MemoryDelta* delta = nullptr) : tables_(tables), delta_(delta) {}

    [[nodiscard]] const MemoryView& tables() const { return tables_; }
    [[nodiscard]] const MemoryDelta* delta() const { return delta_; }
    [[nodiscard]] const DeltaRow* fresh(std::int64_t item) const { return delta_ == nullptr ? nullptr : delta_->find(item); }
    [[nodiscard]] RowView row(std::int64_t item) const {
        if (item >= tables_.n_items) return {nullptr, nullptr, nullptr, 0, nullptr};
        return delta_ == nullptr ? row_of(tables_, item) : delta_->base().row(item);
    }

    // S
    [[nodiscard]] std::int64_t n_sessions() const { return delta_ == nullptr ? tables_.n_sessions : delta_->n_sessions(); }
    // The session's number among those that are not dropped. raw: its place in the tables or, after these, in the
    // delta.
    [[nodiscard]] std::int64_t number_of_raw(std::int64_t raw) const {
        if (delta_ == nullptr || delta_->base().n_dropped() == 0) return raw;
        const BaseRows& base = delta_->base();
        return raw < tables_.n_sessions ? base.number(raw) : raw - base.n_dropped();
    }
    [[nodiscard]] bool has_gaps() const { return delta_ != nullptr && delta_->base().n_dropped() > 0; }
    [[nodiscard]] bool is_gone(std::int64_t session) const { return delta_->base().is_dropped(session); }
    [[nodiscard]] std::int64_t number(std::int32_t session) const {
        if (session < tables_.n_sessions) return number_of_raw(session);
        return delta_->base().n_sessions() + delta_->sessions().place(slot_of_session(session));
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
    // on each item. places: working memory, which the result may point to.
    SessionClicks counting_clicks(std::int32_t session, std::vector<std::int32_t>& places) const {
        const SessionClicks all = clicks(session);
        if (session < tables_.once_from) return all;
        if (session < tables_.n_sessions) {
            list_firsts(all.clicks, all.count, places);
        } else {
            places = delta_->sessions().at(slot_of_session(session)).firsts;
        }
        if (static_cast<std::int64_t>(places.size()) == all.count) return all;
        for (std::int32_t& place : places) place = all.clicks[place];
        return {places.data(), static_cast<std::int64_t>(places.size())};
    }

    // Into out[kCountKinds].
    void counts(std::int64_t item, std::int32_t* out) const {
        if (item < tables_.n_items) {
            const std::int32_t* const of = delta_ == nullptr ? tables_.counts + item * kCountKinds : delta_->base().counts(item);
            std::copy_n(of, kCountKinds, out);
            if (out[kNewest] >= 0) out[kNewest] = static_cast<std::int32_t>(number_of_raw(out[kNewest]));
        } else {
            std::fill(out, out + kNewest, 0);
            out[kNewest] = -1;
        }
        const DeltaCounts* const more = delta_ == nullptr ? nullptr : delta_->find_counts(item);
        if (more == nullptr) return;
        out[kClicks] += more->clicks;
        out[kSessions] += more->sessions;
        out[kRepeatedLater] += more->repeated_later;
        out[kRepeatedAtOnce] += more->repeated_at_once;
        out[kNewest] = static_cast<std::int32_t>(delta_->newest(item, *more));
    }
    // The total of ses.
    [[nodiscard]] float ses(std::int64_t item) const {
        if (delta_ != nullptr) return delta_->by_item()[item].ses;
        return item < tables_.n_items ? tables_.totals[item * kPairKinds + kSes] : 0.0F;
    }
    void prefetch_counts(std::int64_t item) const {
        if (item < tables_.n_items) MTAW_PREFETCH(tables_.counts + item * kCountKinds);
        if (const DeltaCounts* const more = delta_ == nullptr ? nullptr : delta_->find_counts(item)) MTAW_PREFETCH(more);
    }
    // Prefetches what `counts` needs for the newest session.
    void prefetch_newest(std::int64_t item) const {
        const DeltaCounts* const more = delta_ == nullptr ? nullptr : delta_->find_counts(item);
        if (more != nullptr && more->newest >= 0) delta_->sessions().prefetch_stamp(more->newest);
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
        return {&delta_->by_item()->ses, sizeof(MemoryDelta::OfItem) / sizeof(float), count};
    }
    // Of the whole row, but not of aa and rec.
    [[nodiscard]] float total(std::int64_t item, PairKind kind) const {
        const RowView base = row(item);
        const DeltaRow* const more = fresh(item);
        const float of_base = base.totals == nullptr ? 0.0F : base.totals[kind];
        return more == nullptr ? of_base : static_cast<float>(static_cast<double>(of_base) + more->totals[kind]);
    }
    // The latest ones, at most max_postings.
    [[nodiscard]] Postings postings(std::int64_t item) const {
        Postings found{nullptr, 0, nullptr, 0};
        if (item < tables_.n_items) {
            const std::int64_t begin = tables_.post_offsets[item];
            found.base = tables_.postings + begin;
            found.n_base = tables_.post_offsets[item + 1] - begin;
        }
        const DeltaRow* const more = fresh(item);
        if (more == nullptr) return found;
        const std::int64_t most = delta_->base().settings().max_postings;
        found.n_fresh = static_cast<std::int64_t>(more->postings.size());
        if (most > 0) found.n_fresh = std::min(found.n_fresh, most);
        found.fresh = more->postings.data() + more->postings.size() - static_cast<std::size_t>(found.n_fresh);
        if (most == 0) return found;
        // Fills up with sessions of the tables.
        std::int64_t begin = found.n_base, missing = most - found.n_fresh;
        if (!has_gaps()) {
            begin = std::max<std::int64_t>(begin - missing, 0);
        } else {
            while (begin > 0 && missing > 0) missing -= is_gone(found.base[--begin]) ? 0 : 1;
        }
        found.base += begin;
        found.n_base -= begin;
        return found;
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
    const DeltaRow* const more = fresh(item);
    out.total = total(item, kFwd);
    if (more != nullptr && base.count + static_cast<std::int64_t>(more->pairs.size()) <= kStrong) {
        out.count = 0;
        // A pair of both tables gets two entries; the caller adds them.
        const auto add = [&](std::int32_t neighbor, float fwd) {
            out.neighbors[out.count] = neighbor;
            out.fwd[out.count++] = fwd;
        };
        for (std::int64_t p = 0; p < base.count; ++p) add(base.neighbors[p], from_bfloat16(base.values[p * kPairKinds + kFwd]));
        for (const DeltaPair& pair : more->pairs) add(pair.neighbor, more->base_of(pair).fresh(kFwd, pair.sums[kFwd]));
        return out;
    }
    if (more == nullptr || (!more->is_stale && more->strong.empty())) {
        out.count = std::min(base.count, kStrong);
        for (std::int64_t p = 0; p < out.count; ++p) {
            out.neighbors[p] = base.neighbors[p];
            out.fwd[p] = from_bfloat16(base.values[p * kPairKinds + kFwd]);
        }
        return out;
    }
    std::vector<StrongPair> found;
    if (more->is_stale) {
        FreshRow fresh;
        delta_->find_strong(*more, found, fresh);
    }
    const std::vector<StrongPair>& strong = more->is_stale ? found : more->strong;
    out.count = static_cast<std::int64_t>(strong.size());
    for (std::int64_t i = 0; i < out.count; ++i) {
        const StrongPair& one = strong[static_cast<std::size_t>(i)];
        out.neighbors[i] = one.neighbor;
        out.fwd[i] = one.fwd;
    }
    return out;
}

}  // namespace mtaw
