// A row of the delta: what its sessions tell about one item.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "memory/arrays.hpp"
#include "memory/base_rows.hpp"
#include "memory/tables.hpp"

namespace mtaw {

constexpr int kFixedKinds = 4;  // next, fwd, bwd, ses: their terms never change; a session's part of aa and rec does
static_assert(kNext < kFixedKinds && kFwd < kFixedKinds && kBwd < kFixedKinds && kSes < kFixedKinds);

// Two clicks of a session, one of them on the row's item.
struct DeltaTerm {
    std::int32_t pair;     // of the row
    std::int32_t session;  // its slot
    std::int32_t distance_and_same;

    DeltaTerm(std::int32_t pair_index, std::int32_t slot, std::int32_t signed_distance, bool is_same)
        : pair(pair_index), session(slot), distance_and_same(2 * signed_distance + (is_same ? 1 : 0)) {}
    // Of the other click after the item's, negative before it; 0 = too far for fwd and bwd.
    [[nodiscard]] std::int32_t distance() const { return distance_and_same >> 1; }
    // Whether both are first clicks, near enough for ses.
    [[nodiscard]] bool same() const { return (distance_and_same & 1) != 0; }
};

// A cold-start prior: evidence that belongs to no session.
struct DeltaPrior {
    std::int32_t neighbor;
    double values[kPairKinds];
};

// What the base knows of a pair.
struct PairBase {
    std::uint16_t values[kPairKinds];
    float rest[kPairKinds];  // what rounding, or the cut, took from the values; 0 if it is not known
    std::int32_t index;      // in the base's row, -1 = not there

    // The value as it was summed; rec as of the base's newest session.
    [[nodiscard]] double whole(int kind) const {
        return static_cast<double>(from_bfloat16(values[kind])) + static_cast<double>(rest[kind]);
    }
    // What is to be added to the value so that the sum with the delta's is rounded once.
    [[nodiscard]] float increment(int kind, double sum) const {
        return from_bfloat16(to_bfloat16(whole(kind) + sum)) - from_bfloat16(values[kind]);
    }
};
constexpr PairBase kNoBase{{}, {}, -1};

// What the delta knows of a pair in addition to the sums and to the terms that are not folded.
struct PairPast {
    double prior_aa, prior_rec;
    double folded_aa, folded_rec;  // of the terms that were folded; rec as at DeltaRow::fold_mark
    std::int32_t folded_latest;    // the slot of the latest session that was folded, -1 = none
    std::int32_t pair;             // of the row
};
constexpr PairPast kNoPast{0, 0, 0, 0, -1, -1};

// Most pairs are met once or twice: what few of them have is in arrays of the row.
struct DeltaPair {
    double sums[kFixedKinds];
    std::int32_t neighbor;
    std::int32_t base_at = -1, past_at = -1;  // indices in DeltaRow::bases and pasts, -1 = none
    std::int16_t merged_at = -1;              // in DeltaRow::merged, -1 = not there
    std::int8_t strong_at = -1;               // in DeltaRow::strong, -1 = not there
    bool weak : 1 = false;                    // whether it is not read: a rebuilt row would not have it
    bool changed : 1 = false;                 // in MergedRow::changed
};

// One of the strongest neighbors.
struct StrongPair {
    std::int32_t neighbor;
    std::int32_t source;  // the row's pair, or -1 - the index of one that the base alone has
    float fwd;            // of base and delta
};

constexpr std::int64_t kStrong = 20;  // strongest neighbors that a step to second ones takes

// What a query reads for many items; it reads only few rows, so this is stored separately.
struct DeltaCounts {
    std::int32_t clicks = 0, sessions = 0, repeated_later = 0, repeated_at_once = 0;
    // The stamps of the two sessions with the item that were clicked last, on whatever item; -1 = none.
    std::int32_t newest = -1, before_newest = -1;

    // A session's stamp changes because it is clicked.
    void update_newest(std::int32_t previous_stamp, std::int32_t stamp) {
        if (newest != previous_stamp) before_newest = newest;
        newest = stamp;
    }
};

// The pairs of a long row that a query reads, of base and delta together, as tables would have them: read instead of
// both, which are several times its bytes. It is merged again after some events; until then, pairs that have changed
// are summed by the query.
struct MergedRow {
    std::vector<std::int32_t> neighbors, latest;
    std::vector<std::uint16_t> values;  // [count, kPairKinds], rec as of the session with the stamp `newest`
    double aa, rec;                     // totals of the delta alone
    std::int32_t newest;
    std::int64_t n_terms;               // the row's first terms, which it holds
    std::vector<std::int32_t> changed;  // the row's pairs

    [[nodiscard]] RowView view() const {
        return {neighbors.data(), latest.data(), values.data(), static_cast<std::int64_t>(neighbors.size()), nullptr};
    }
    [[nodiscard]] std::int64_t n_bytes() const {
        return static_cast<std::int64_t>(sizeof(MergedRow) + values.capacity() * sizeof(values[0]) +
                                         (neighbors.capacity() + latest.capacity() + changed.capacity()) *
                                             sizeof(neighbors[0]));
    }
};

// What few rows have.
struct RareParts {
    std::vector<std::pair<std::int32_t, std::int32_t>> base_runs;
    std::vector<DeltaPrior> priors;
};

struct DeltaRow {
    std::int32_t item;
    std::int32_t fold_mark = 0;
    DeltaCounts* counts;  // the row's
    float* ses;           // total of base and delta, where all of them are by item
    // A query reads as many pairs of base and delta together as tables keep, the strongest: those of the delta that are
    // not weak, and, if the row is narrowed, of the base's the runs of pairs [begin, end) alone.
    std::unique_ptr<RareParts> rare;  // with base_runs; null while they are empty
    std::int32_t n_weak = 0;
    std::int32_t cut_terms = 0;  // terms when that was found
    std::int32_t folded = 0;     // terms, the first ones
    std::int32_t unfolded = 0;   // terms that the last fold left over
    bool narrowed = false;
    bool may_enter_strong = false;  // whether a pair that is not among the strongest may have become one
    bool is_stale = false;          // a query finds them itself instead of reading `strong`
    bool is_queued = false;         // in MemoryDelta::unranked_
    float base_totals[kFixedKinds] = {};
    double cut_least = -1;     // the strength of the weakest that is read, -1 = all are
    double strong_least = -1;  // the strength of the last of the strongest, -1 = there are no others
    double totals[kFixedKinds] = {};
    double ranked_rec = 0;  // total of base and delta when the strongest were found
    ShortArray<DeltaPair> pairs;
    ShortArray<PairBase> bases;
    ShortArray<PairPast> pasts;
    ShortArray<DeltaTerm> terms;
    ShortArray<std::int32_t> index;     // a hash table of 1 + pair by neighbor, empty while there are few
    ShortArray<std::int32_t> postings;  // slots, by their sessions' last clicks
    ShortArray<StrongPair> strong;      // the strongest; empty while they are the base's, or all there are
    std::unique_ptr<MergedRow> merged;  // null while the row is short, or since it lost something

    DeltaRow(std::int32_t row_item, DeltaCounts* item_counts, float* ses_total)
        : item(row_item), counts(item_counts), ses(ses_total) {}

    [[nodiscard]] const PairBase& base_of(const DeltaPair& pair) const {
        return pair.base_at < 0 ? kNoBase : bases[static_cast<std::size_t>(pair.base_at)];
    }
    [[nodiscard]] const PairPast& past_of(const DeltaPair& pair) const {
        return pair.past_at < 0 ? kNoPast : pasts[static_cast<std::size_t>(pair.past_at)];
    }
    // The same, made if there is none.
    PairPast& past_of(DeltaPair& pair);
    [[nodiscard]] float fwd_of(const DeltaPair& pair) const {
        const PairBase& base = base_of(pair);
        return from_bfloat16(base.values[kFwd]) + base.increment(kFwd, pair.sums[kFwd]);
    }
    RareParts& make_rare() {
        if (rare == nullptr) rare = std::make_unique<RareParts>();
        return *rare;
    }
    // -1 = none.
    [[nodiscard]] std::int32_t find(std::int32_t neighbor) const;
    // The pair with a neighbor, made if there is none; `base` has the row under this one.
    std::int32_t pair_with(std::int32_t neighbor, const BaseRows& base);
    void add_term(const DeltaTerm& term);
    [[nodiscard]] double max_strength(const DeltaPair& pair) const;
    void add_prior(std::int32_t pair_index, const double* values);
    void link(DeltaPair& pair, const BaseRows& base);
    void set_weak(DeltaPair& pair, bool weak);
    // A weak pair is read from now on.
    void strengthen(DeltaPair& pair);
    // The merged row, if there is one, no longer holds what the pair is.
    void set_changed(std::int32_t pair_index);
    // Whether a query reads the pair at an index of the base's row.
    [[nodiscard]] bool reads(std::int32_t base_index) const;
    void set_ses() { *ses = static_cast<float>(static_cast<double>(base_totals[kSes]) + totals[kSes]); }
    // Brings what is derived from the sums up to date.
    void refresh(const DeltaPair& pair);
    // Moves the session of a slot to the end of the postings: it was clicked last.
    void move_to_end(std::int32_t slot);
    // Forgets all pairs and terms, to be added again.
    void clear_pairs();
    void reindex();
    [[nodiscard]] std::int64_t read_count() const { return static_cast<std::int64_t>(pairs.size()) - n_weak; }
    [[nodiscard]] std::int64_t n_bytes() const;
};

}  // namespace mtaw
