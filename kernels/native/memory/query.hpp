// Candidates of a session, their features and their ranking, from the tables of past sessions.
//
//     const SessionMemory memory(tables, settings, n_catalog);   // the tables stay where they are
//     MemoryScratch scratch;                                     // one a thread
//     memory.rank(request, &vectors, ranker, k, ids, scores, scratch);
//
// A result depends on its session, the tables and the conditions alone, to the bit: not on the instruction set, the
// thread, or what was asked before.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "encode/aligned.hpp"
#include "isa.hpp"
#include "memory/features.hpp"
#include "memory/live.hpp"
#include "memory/own_items.hpp"
#include "memory/pool.hpp"
#include "memory/ranker_net.hpp"
#include "memory/settings.hpp"
#include "memory/similar_sessions.hpp"
#include "memory/view.hpp"
#include "memory/zeroed.hpp"
#include "score/score.hpp"
#include "trends/trends.hpp"

namespace mtaw {

// What a logit is made of: scale * dot(query, row of the item), as score.hpp says.
struct ItemVectors {
    const float* rows;  // float32[n, d]
    std::int64_t n;
    const float* added;  // float32[.., d], the rows of the ids from n on
    std::int64_t d;
    double scale;
    std::int64_t n_added;  // rows of `added`; items behind them have no vector and the logit 0
};

struct MemoryRequest {
    const std::int32_t* clicks;  // int32[m], m >= 1; the last kMaxClicks count
    std::int64_t m;
    // float32[d]. Null, or settings without a dense list: the features of the neural part are 0.
    const float* query = nullptr;
    // The best items by the query, in order, with their logits; those past MemoryQuerySettings::dense only fill up a
    // ranking that is longer than the list of candidates.
    const std::int32_t* dense = nullptr;
    const float* logits = nullptr;
    std::int64_t n_dense = 0;
    const std::uint8_t* allowed = nullptr;   // bit i % 8 of byte i / 8: the items that may be found; null = all
    const std::int32_t* excluded = nullptr;  // and these may not; ids that there are not say nothing
    std::int64_t n_excluded = 0;
    // Items from here on may not be found either: those that a delta knows before the caller does. `allowed` has a bit
    // for each of those below.
    std::int64_t n_items = std::numeric_limits<std::int64_t>::max();
    const Trends* trends = nullptr;  // for at least as many items as the catalog has room for
    std::int64_t now = 0;            // ms since 1970; with trends, as is
    const std::int64_t* times = nullptr;  // int64[m], of the clicks, kNever where unknown; null: all are
};

// The largest sizes that a query can need.
struct MemoryBounds {
    std::int64_t catalog = 0;
    std::int64_t sessions = 0;
    std::int64_t slots = 0;
    std::int64_t touched = 0;  // past sessions that share an item
    std::int64_t longest = 0;  // past session
    std::int64_t similar = 0;
    std::int64_t candidates = 0;
};

// One thread's working memory: of a fixed size for one SessionMemory, grown where another one needs more. Of the
// arrays that grow with the pool only the pages that are used take memory.
class MemoryScratch {
 public:
    MemoryScratch() = default;

 private:
    friend class SessionMemory;

    void fit(const MemoryBounds& bounds);

    MemoryBounds bounds_;
    std::vector<std::int32_t> place_;
    std::vector<float> weights_;
    std::unique_ptr<std::int32_t[]> items_;
    ZeroedFloats sums_;
    ZeroedFloats more_;
    AlignedFloats roots_;
    std::unique_ptr<std::int32_t[]> keys_;     // by slot: the bits of its pre-score, kBanned = may not be found
    std::unique_ptr<std::int32_t[]> touched_;  // three arrays of `touched`
    std::unique_ptr<std::int32_t[]> slots_;
    std::unique_ptr<std::int32_t[]> similar_;
    AlignedFloats fresh_;
    AlignedFloats kept_;
    std::vector<std::int32_t> candidates_;  // slots; never more than the pool has
    std::vector<Scored> scored_;
    std::vector<Scored> missing_;
    std::unique_ptr<std::int32_t[]> score_keys_;
    AlignedFloats columns_;
    RankerScratch ranker_;
    FreshRow fresh_row_;
    OwnItems own_;
    AskingSession asking_;
    std::vector<TaughtRow> taught_;  // by own item, where it is found
    Pool pool_{};
    QueryFacts facts_{};
    float query_features_[kQueryFeatures + kTrendQueryFeatures + kPadding];
    TrendsScratch trends_;
    std::vector<std::int32_t> trending_;
};

// Immutable but for its delta: any number of threads may call it at once, each with a scratch of its own.
class SessionMemory {
 public:
    // n_catalog: ids of clicks and dense items lie in 0..n_catalog-1; the tables know the first memory.n_items of them.
    // Throws std::invalid_argument on settings out of range or tables for more items than there are.
    // delta: of these tables, for as many items; what it holds counts as part of them, at every moment.
    SessionMemory(const MemoryView& memory, const MemoryQuerySettings& settings, std::int64_t n_catalog,
                  Isa isa = active_isa(), const MemoryDelta* delta = nullptr);
    SessionMemory(const SessionMemory&) = delete;
    SessionMemory& operator=(const SessionMemory&) = delete;

    const MemoryDelta* delta() const { return delta_; }
    std::int64_t most_candidates() const { return bounds_.candidates; }
    std::int64_t n_catalog() const { return bounds_.catalog; }
    const MemoryQuerySettings& settings() const { return settings_; }
    static std::int64_t n_features(const MemoryRequest& request) {
        return kFeatures + (request.trends == nullptr ? 0 : kTrendFeatures);
    }

    // Writes the candidates and their features: ids int32[most_candidates()], features float32[most_candidates(),
    // n_features(request)], those of trends behind the others. Returns how many there are; what lies behind them stays as it is. `vectors` may be null where the
    // request has no query. Throws std::out_of_range on a click outside the catalog, std::invalid_argument on m < 1.
    std::int64_t features(const MemoryRequest& request, const ItemVectors* vectors, std::int32_t* ids, float* features,
                          MemoryScratch& scratch) const;

    // Writes ids int32[k] and scores float32[k], best first, padded with -1 / -infinity: the candidates by the ranker's
    // score, ties by the lower id, then the other dense items in their order. Their scores go on from the lowest
    // candidate's: it less (scale - logit), but always under that of an item before with a larger logit. Throws as
    // `features` does, and std::invalid_argument where ranker and request do not agree on trends.
    void rank(const MemoryRequest& request, const ItemVectors* vectors, const RankerNet& ranker, std::int64_t k,
              std::int32_t* ids, float* scores, MemoryScratch& scratch) const;

 private:
    // The candidates of a request into scratch.candidates_, the pool behind them, and the query's features.
    void gather(const MemoryRequest& request, const ItemVectors* vectors, MemoryScratch& scratch) const;
    // The columns of the candidates from `begin` on, at most a tile of them; returns how many columns count. `vectors`
    // is null where there is no neural part.
    std::int64_t tile(std::int64_t begin, const MemoryRequest& request, const ItemVectors* vectors,
                      MemoryScratch& scratch) const;
    // The vectors that the tile at `begin` will want, into rows[kTile].
    RowsAhead ahead(std::int64_t begin, const ItemVectors* vectors, const MemoryScratch& scratch,
                    const float** rows) const;
    void place(std::int64_t k, std::int32_t* ids, float* scores, MemoryScratch& scratch) const;
    static void release(MemoryScratch& scratch);
    void check(const MemoryRequest& request) const;
    // Looks for the session that asks, and counts what others made of its items.
    void find_asking(const MemoryRequest& request, MemoryScratch& scratch) const;
    [[nodiscard]] static const TaughtRow* taught_of(const MemoryScratch& scratch, std::int64_t u) {
        return scratch.asking_.found() ? &scratch.taught_[static_cast<std::size_t>(u)] : nullptr;
    }
    // S, without the session that asks.
    [[nodiscard]] std::int64_t n_sessions(const MemoryScratch& scratch) const {
        return live_.n_sessions() - (scratch.asking_.found() ? 1 : 0);
    }
    [[nodiscard]] StrongNeighbors strong(std::int64_t item, const MemoryScratch& scratch) const;
    void prefetch_own(const OwnItems& own) const;
    void add_neighbors(MemoryScratch& scratch) const;
    void fetch_second(const StrongNeighbors& strong) const;
    void add_second(MemoryScratch& scratch) const;
    void add_dense(const MemoryRequest& request, MemoryScratch& scratch) const;
    void add_trending(const MemoryRequest& request, MemoryScratch& scratch) const;
    void measure_trends(const MemoryRequest& request, MemoryScratch& scratch) const;
    // Where the columns of a tile begin: those of trends, if they are asked for, stand before the others.
    static float* columns_of(const MemoryRequest& request, MemoryScratch& scratch) {
        return scratch.columns_.data() + (request.trends == nullptr ? kTrendColumns * kTile : 0);
    }
    void state_facts(const MemoryRequest& request, MemoryScratch& scratch) const;
    void weigh(const MemoryRequest& request, MemoryScratch& scratch) const;
    void choose(const MemoryRequest& request, MemoryScratch& scratch) const;
    void add_logits(const std::int32_t* slots, std::int64_t count, const float* query, const ItemVectors& vectors,
                    MemoryScratch& scratch) const;
    void rank_rest(const MemoryRequest& request, double scale, float lowest, std::int64_t k, std::int32_t* ids,
                   float* scores, MemoryScratch& scratch) const;
    bool is_neural(const MemoryRequest& request) const { return request.query != nullptr && settings_.dense > 0; }
    FeatureSource source(const MemoryScratch& scratch) const {
        return {live_, scratch.own_, scratch.asking_, scratch.pool_, scratch.facts_};
    }

    // What a query needs at most while the delta is as it is.
    MemoryBounds bounds() const;
    // Keeps the delta as it is, where there is one.
    MemoryDelta::ReadLock hold() const { return delta_ == nullptr ? MemoryDelta::ReadLock() : delta_->read(); }
    static TrendsLock hold(const Trends* trends) { return trends == nullptr ? TrendsLock() : trends->reading(); }

    MemoryView memory_;
    const MemoryDelta* delta_;
    LiveTables live_;
    std::int64_t longest_row_;
    MemoryQuerySettings settings_;
    Isa isa_;
    const MemoryKernels* kernels_;
    MemoryBounds bounds_;
};

}  // namespace mtaw
