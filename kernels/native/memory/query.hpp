// Queries of the session memory: candidates for a session, their features and their ranking.
//
//     const SessionMemory memory(tables, settings, n_catalog);   // the tables stay where they are
//     MemoryScratch scratch;                                     // one a thread
//     memory.rank(request, &vectors, ranker, k, ids, scores, scratch);
//
// A result depends only on the session, the tables and the conditions, to the bit: not on the instruction set, the
// thread, or earlier queries.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "encode/aligned.hpp"
#include "isa.hpp"
#include "memory/arrays.hpp"
#include "memory/features.hpp"
#include "memory/kernels.hpp"
#include "memory/merged_tables.hpp"
#include "memory/own_items.hpp"
#include "memory/pool.hpp"
#include "memory/query_trace.hpp"
#include "memory/ranker_net.hpp"
#include "memory/tables.hpp"
#include "score/score.hpp"
#include "trends/trends.hpp"

namespace mtaw {

struct MemoryQuerySettings {
    std::int64_t own;     // latest distinct items of the session itself, 1 .. kMaxOwn
    std::int64_t others;  // best of the items that past sessions hold together with its clicks
    std::int64_t dense;   // best items by the query vector
    std::int64_t trends =
        0;  // best items by decayed sums, where a request comes with trends; and those that are popular
    // With trends: of all candidates but own items, the best by quick score get features and the ranker's score, and
    // those that a request always ranks; 0 = all.
    std::int64_t ranked = 0;
};

// The vectors of the items. A logit is scale * dot(query, row of the item), as in score.hpp.
struct ItemVectors {
    const float* rows;  // float32[n, d]
    std::int64_t n;
    const float* added;  // float32[.., d], the rows of the ids from n on
    std::int64_t d;
    double scale;
    std::int64_t n_added;  // rows of `added`; items behind them have no vector and the logit 0

    const float* row(std::int64_t item) const { return item < n ? rows + item * d : added + (item - n) * d; }
};

struct MemoryRequest {
    const std::int32_t* clicks;  // int32[n_clicks], n_clicks >= 1; the last kMaxClicks count
    std::int64_t n_clicks;
    // float32[d]. Null, or settings without a dense list: the features of the neural part are 0.
    const float* query = nullptr;
    // The best items by the query, in order, with their logits; those past MemoryQuerySettings::dense only fill up a
    // ranking that is longer than the list of candidates.
    const std::int32_t* dense = nullptr;
    const float* logits = nullptr;
    std::int64_t n_dense = 0;
    const std::uint8_t* allowed = nullptr;   // bit i % 8 of byte i / 8: the items that may be found; null = all
    const std::int32_t* excluded = nullptr;  // and these may not; unknown ids are ignored
    std::int64_t n_excluded = 0;
    const std::uint8_t* always_ranked =
        nullptr;  // as `allowed`: candidates that are ranked whatever their quick score; null = none
    // Items from this id on may not be found either: the delta may know them before the caller does. `allowed` has a
    // bit for each item below it.
    std::int64_t n_items = std::numeric_limits<std::int64_t>::max();
    const Trends* trends = nullptr;          // for at least the catalog's capacity of items
    std::int64_t now = 0;                    // ms since 1970; with trends, as is
    const std::int64_t* times = nullptr;     // int64[n_clicks], of the clicks, kNever where unknown; null: all are
    const std::uint16_t* context = nullptr;  // as TrendsRequest
    const ItemContent* content = nullptr;
    std::int64_t n_types = 0;             // that the ranker reads, at most kMaxTypes
    const std::uint8_t* types = nullptr;  // uint8[n_clicks], a code from n_types on where unknown; null: all are
    QueryTrace* trace = nullptr;          // filled by `rank`
};

// Upper bounds of what a query needs.
struct MemoryBounds {
    std::int64_t catalog = 0;
    std::int64_t slots = 0;
    std::int64_t candidates = 0;
};

// One thread's working memory: of a fixed size for one SessionMemory; another one may enlarge it. Of the arrays
// that grow with the pool, only the pages that are used take memory.
class MemoryScratch {
   public:
    MemoryScratch() = default;

   private:
    friend class SessionMemory;

    void fit(const MemoryBounds& bounds);

    MemoryBounds bounds_;
    std::vector<std::int32_t> slot_plus_one_;
    std::unique_ptr<std::int32_t[]> items_;
    ZeroFloats sums_;
    ZeroFloats signals_;
    AlignedFloats inverse_roots_;
    std::unique_ptr<std::int32_t[]> keys_;  // by slot: the bits of its pre-score, kBanned = may not be found
    std::vector<std::int32_t> candidates_;  // slots; never more than the pool has
    std::vector<Scored> scored_;
    std::vector<Scored> missing_;
    std::unique_ptr<std::int32_t[]> score_keys_;
    std::unique_ptr<std::int32_t[]> ties_;  // of score_keys_
    AlignedFloats columns_;
    RankerScratch ranker_;
    MaterializedRow delta_row_;
    OwnItems own_;
    ClickTypes types_;
    CurrentSession current_;
    std::vector<OwnEvidence> own_evidence_;  // by own item, where it is found
    Pool pool_{};
    QueryFacts facts_{};
    float query_features_[kQueryFeatures + kTrendQueryFeatures + kMaxTypes + kPadding];
    TrendsScratch trends_;
    std::vector<std::int32_t> trending_items_;  // items that the trends bring
    std::vector<float> trending_scores_;
    std::vector<std::int32_t> measured_items_;  // of the candidates, for the trends' sums
    std::vector<Scored> unranked_;  // quick scores and slots of pruned candidates, if a ranking is long enough for them
};

// Immutable except for its delta. Any number of threads may call it at once, each with its own scratch.
class SessionMemory {
   public:
    // n_catalog: ids of clicks and dense items are in 0..n_catalog-1; the tables know the first memory.n_items of them.
    // Throws std::invalid_argument on settings out of range or tables for more items than there are.
    // delta: made from these tables, for as many items; queries see its sessions too.
    SessionMemory(const MemoryView& memory, const MemoryQuerySettings& settings, std::int64_t n_catalog,
                  Isa isa = active_isa(), const MemoryDelta* delta = nullptr);
    SessionMemory(const SessionMemory&) = delete;
    SessionMemory& operator=(const SessionMemory&) = delete;

    const TablesView& tables() const { return memory_; }
    const MemoryDelta* delta() const { return delta_; }
    std::int64_t max_candidates() const { return bounds_.candidates; }
    std::int64_t n_catalog() const { return bounds_.catalog; }
    const MemoryQuerySettings& settings() const { return settings_; }
    static std::int64_t n_features(const MemoryRequest& request) {
        return kFeatures + (request.trends == nullptr ? 0 : kTrendFeatures + n_side(request)) +
               kTypeParts * request.n_types;
    }
    static std::int64_t n_side(const MemoryRequest& request) {
        return request.trends == nullptr ? 0 : n_side_features(request.trends->context_shape(), request.content);
    }

    // Writes the candidates and their features: ids int32[max_candidates()], features float32[max_candidates(),
    // n_features(request)], in the order of RankerWeights. Returns how many there are; the rest of the arrays is not
    // written. `vectors` may be null if the request has no query. Throws std::out_of_range on a click outside the
    // catalog, std::invalid_argument on n_clicks < 1.
    std::int64_t features(const MemoryRequest& request, const ItemVectors* vectors, std::int32_t* ids, float* features,
                          MemoryScratch& scratch) const;

    // Writes ids int32[k] and scores float32[k], best first, padded with -1 / -infinity: the candidates by the ranker's
    // score, ties by the lower id, then those that were not ranked (MemoryQuerySettings::ranked) by quick score, then
    // the other dense items in their order. Their scores continue from the lowest candidate's: those of dense items are
    // that score - (scale - logit), always below the item before if its logit is larger. Throws as
    // `features` does, and std::invalid_argument if ranker and request differ in features.
    void rank(const MemoryRequest& request, const ItemVectors* vectors, const RankerNet& ranker, std::int64_t k,
              std::int32_t* ids, float* scores, MemoryScratch& scratch) const;

   private:
    // Fills scratch.candidates_, the pool behind them and the query's features. k: the length of the ranking, for
    // prune_candidates; 0 keeps all candidates.
    void gather_candidates(const MemoryRequest& request, const ItemVectors* vectors, std::int64_t k,
                           MemoryScratch& scratch) const;
    // The columns of the candidates from `begin` on, at most a tile of them; returns how many columns count. `vectors`
    // is null if there is no neural part.
    std::int64_t fill_tile_columns(std::int64_t begin, const MemoryRequest& request, const ItemVectors* vectors,
                                   MemoryScratch& scratch) const;
    // Lists the vectors that the tile at `begin` will read, into rows[kTile].
    RowsAhead list_rows_ahead(std::int64_t begin, const ItemVectors* vectors, const MemoryScratch& scratch,
                              const float** rows) const;
    void write_best(std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const;
    static void clear_pool(MemoryScratch& scratch);
    void check_request(const MemoryRequest& request) const;
    // Finds the current session in the delta, and the other sessions' counts of its items.
    void find_current_session(const MemoryRequest& request, MemoryScratch& scratch) const;
    [[nodiscard]] static const OwnEvidence* own_evidence_of(const MemoryScratch& scratch, std::int64_t u) {
        return scratch.current_.found() ? &scratch.own_evidence_[static_cast<std::size_t>(u)] : nullptr;
    }
    // S, the current session excepted.
    [[nodiscard]] std::int64_t n_sessions(const MemoryScratch& scratch) const {
        return merged_.n_sessions() - (scratch.current_.found() ? 1 : 0);
    }
    [[nodiscard]] StrongNeighbors strong(std::int64_t item, const MemoryScratch& scratch) const;
    void prefetch_own(const OwnItems& own) const;
    void add_neighbors(MemoryScratch& scratch) const;
    void prefetch_two_step(const StrongNeighbors& strong) const;
    void add_two_step(MemoryScratch& scratch) const;
    void add_dense(const MemoryRequest& request, MemoryScratch& scratch) const;
    void add_trending(const MemoryRequest& request, MemoryScratch& scratch) const;
    void measure_trends(const MemoryRequest& request, MemoryScratch& scratch) const;
    // The columns of a tile: [e_near, side features, trends, candidates, own, e_own]. Those of the candidates begin at
    // a fixed one; the ones before begin `n_before` columns earlier.
    static constexpr std::int64_t kBefore = kMaxTypes + kMaxSide + kTrendColumns;
    static std::int64_t n_before(const MemoryRequest& request) {
        return request.n_types + (request.trends == nullptr ? 0 : n_side(request) + kTrendColumns);
    }
    static float* columns_of(const MemoryRequest& request, MemoryScratch& scratch) {
        return scratch.columns_.data() + (kBefore - n_before(request)) * kTile;
    }
    void set_query_facts(const MemoryRequest& request, MemoryScratch& scratch) const;
    void compute_pre_scores(const MemoryRequest& request, MemoryScratch& scratch) const;
    void choose_candidates(const MemoryRequest& request, MemoryScratch& scratch) const;
    // What `trace` holds: the pool once the candidates are chosen, and the features of a tile of ranked ones.
    void trace_pool(QueryTrace& trace, const MemoryScratch& scratch) const;
    static void trace_tile(std::int64_t begin, std::int64_t count, std::int64_t depth, const float* columns,
                           const RankerNet& ranker, QueryTrace& trace, const MemoryScratch& scratch);
    [[nodiscard]] float quick_per_dense() const {
        return 1.0F / static_cast<float>(std::max<std::int64_t>(settings_.dense, 1));
    }
    // Keeps own items, the best settings_.ranked other candidates by quick score, ties by the lower id, and those that
    // are always ranked.
    void prune_candidates(const MemoryRequest& request, std::int64_t k, MemoryScratch& scratch) const;
    void add_logits(const std::int32_t* slots, std::int64_t count, const float* query, const ItemVectors& vectors,
                    MemoryScratch& scratch) const;
    // Continue a ranking after the score `lowest`: of the candidates left out at most k, of which the number is
    // returned, and of the dense list.
    static std::int64_t append_unranked(float lowest, std::int64_t k, std::int32_t* ids, float* scores,
                                        MemoryScratch& scratch);
    void append_dense(const MemoryRequest& request, double scale, float lowest, std::int64_t k, std::int32_t* ids,
                      float* scores, MemoryScratch& scratch) const;
    bool is_neural(const MemoryRequest& request) const { return request.query != nullptr && settings_.dense > 0; }
    FeatureSource source(const MemoryScratch& scratch) const {
        return {merged_, scratch.own_, scratch.current_, scratch.pool_, scratch.facts_};
    }

    // Upper bounds of what a query needs with the delta as it is now.
    MemoryBounds bounds() const;
    // Locks the delta, if there is one, against changes.
    MemoryDelta::ReadLock lock() const { return delta_ == nullptr ? MemoryDelta::ReadLock() : delta_->read(); }
    static TrendsLock lock(const Trends* trends) { return trends == nullptr ? TrendsLock() : trends->reading(); }

    MemoryView memory_;
    const MemoryDelta* delta_;
    MergedTables merged_;
    std::int64_t longest_row_;
    MemoryQuerySettings settings_;
    Isa isa_;
    const MemoryKernels* kernels_;
    MemoryBounds bounds_;
};

}  // namespace mtaw
