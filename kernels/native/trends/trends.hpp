// Trends: mapped tables plus the clicks that came since, used by many threads at once.
//
//     Trends trends(view, settings, limits);
//     trends.click(clicks);                                  // one thread at a time
//     const auto locked = trends.reading();                  // writers wait until it is destroyed
//     trends.start(request, scratch);
//     trends.choose_candidates(request, n, ids, scores, kernels, scratch);  // candidates
//     trends.measure(ids, count, kernels, scratch);          // any items
//     trends.fill(begin, count, columns, kernels, scratch);  // their features, tile by tile
#pragma once

#include <cstdint>
#include <limits>
#include <unordered_set>
#include <vector>

#include "change_lock.hpp"
#include "encode/aligned.hpp"
#include "trends/delta.hpp"
#include "trends/features.hpp"

namespace mtaw {

constexpr std::int64_t kTrendOwn = 10;         // latest distinct items of a session that are looked at
constexpr std::int64_t kTrendRising = 50;      // rising items that become candidates
constexpr std::int64_t kTrendPopular = 100;    // whose popularity counts in the pre-score
constexpr std::int64_t kTrendMaxRising = 256;  // that are kept in order
constexpr std::int64_t kTrendEvery = 10000;    // ms of the clicks' time: at every multiple they are put in order again

// A ranking counts evidence that is older as this old, in ms: its counts would fade to nothing, and with them what was
// popular then, which is still the best guess.
constexpr std::int64_t kTrendStale = std::int64_t{7} * 24 * 3'600'000;

using TrendsLock = ChangeLock::Read;

struct TrendsRequest {
    const std::int32_t* own;  // distinct, the latest first
    std::int64_t n_own;       // 1 .. kTrendOwn
    std::int64_t now;
    std::int64_t first_click = kNever, before_click = kNever, last_click = kNever;  // times, where known
    std::int64_t catalog = std::numeric_limits<std::int64_t>::max();  // candidates are under it, and in `allowed`
    const std::uint8_t* allowed = nullptr;                            // as MemoryRequest
    const std::int32_t* excluded = nullptr;
    std::int64_t n_excluded = 0;
    const std::uint16_t* context = nullptr;  // codes of the visit, one a column of the tables; null: none is known
    const ItemContent* content = nullptr;    // null: no features of it
};

// The request of a session of n_clicks >= 1 clicks; times: [n_clicks], or null. own: room for kTrendOwn items, to which
// the request points.
TrendsRequest trends_request(const std::int32_t* clicks, const std::int64_t* times, std::int64_t n_clicks,
                             std::int64_t now, std::int32_t* own);

// first_click, before_click and last_click from the times of n_clicks clicks.
void set_times(const std::int64_t* times, std::int64_t n_clicks, TrendsRequest& request);

struct TrendClicks {
    const std::int64_t* handles;
    const std::int32_t* items;
    const std::int64_t* times;
    const std::int64_t* arrivals;  // null: as the times
    std::int64_t count;
    const std::uint16_t* context = nullptr;  // [count, columns], of the clicks' visits; null: none is known
};

// 2^((t0 - now) / h) by lane, for the tables and for what came since; twice, as a row of kItemSums has the lanes.
struct TrendFactors {
    float base[kItemSums];
    double delta[kItemSums];
};

// One thread's working memory.
class TrendsScratch {
   public:
    const float* query_features() const { return query_features_; }

   private:
    friend class Trends;
    void fit(std::int64_t capacity, std::int64_t n_measured);
    void clear_scores();

    struct OwnRow {
        std::int64_t item;
        TrendRow base;
        const ItemDelta* delta;
        float weight;                   // 0.75^u of row u
        float base_factors[kPairSums];  // what a pair's value is worth in the pre-score
        double delta_factors[kPairSums];
    };
    struct Side {
        std::int64_t n_features = 0;
        std::int64_t value[kMaxContext];  // -1: none
        float per_total[kMaxContext];
        const ItemContent* content = nullptr;
        std::int64_t n_own = 0;
        std::int32_t own[kMaxCategories][kTrendOwn];
        float per_known[kMaxCategories];  // 2 / own items with a category; 0 without any
    };
    Side side_;
    OwnRow rows_[kTrendOwn];
    std::int64_t n_rows_ = 0;
    TrendFactors factors_;
    TrendFacts facts_;
    std::int64_t now_ = 0;
    float query_features_[kTrendQueryFeatures + kPadding];
    std::vector<std::int32_t> slot_plus_one_;  // by item; 0 between calls
    ZeroFloats scores_;                        // by item: the pre-score of its pairs; 0 in blocks without a mark
    ZeroFloats popular_;                       // by item: what popularity adds to that; 0 between calls
    std::vector<std::uint8_t> marks_;          // by block of scores_
    std::vector<std::int32_t> items_, keys_, chosen_;
    std::vector<std::int32_t> measured_, matches_;
    std::vector<const ItemDelta*> deltas_;  // of the measured items
    std::vector<TrendSums> sums_;
};

class Trends {
   public:
    // The arrays of the view, which check_trends has passed, stay where they are. Throws std::invalid_argument on
    // limits out of range.
    Trends(const TrendsView& base, const TrendSettings& settings, const TrendLimits& limits);

    // Throws std::out_of_range on an item outside 0..capacity-1, before any click is taken.
    void click(const TrendClicks& clicks);
    // As TrendsDelta; forget_in_tables throws as click does.
    bool forget(std::int64_t handle);
    void forget_in_tables(const TrendsSession& session, const TrendsView& remaining, const std::int32_t* ids);

    // While it lives, nothing changes.
    TrendsLock reading() const { return change_lock_.read(); }

    // The rest only under `reading`. Fetches what a query reads of an own item: best some microseconds before `start`.
    void prefetch_row(std::int64_t item) const;
    // A `now` before the newest click counts as that one's time; one more than kTrendStale after it, as so much later.
    void start(const TrendsRequest& request, const ColumnKernels& kernels, TrendsScratch& scratch) const;
    // The best n by pre-score, ties by the lower id, and the kTrendRising most clicked now: ids int32[n +
    // kTrendRising], none of them twice or an own one, and their pre-scores. Returns how many.
    std::int64_t choose_candidates(const TrendsRequest& request, std::int64_t n, std::int32_t* ids, float* scores,
                                   const ColumnKernels& kernels, TrendsScratch& scratch) const;
    // Sums of `count` items for `fill`.
    void measure(const std::int32_t* ids, std::int64_t count, const ColumnKernels& kernels,
                 TrendsScratch& scratch) const;
    // Columns [kTrendColumns, kTile] of the measured items from `begin` on, count <= kTile, and their side features'
    // [n_side_features, kTile].
    void fill(std::int64_t begin, std::int64_t count, float* columns, float* side, const ColumnKernels& kernels,
              TrendsScratch& scratch) const;
    // Decayed clicks of an item in visits with a value; delta: delta().find(item).
    float context_sum(std::int64_t item, const ItemDelta* delta, std::int64_t value, const TrendFactors& factors) const;
    const ContextShape& context_shape() const { return delta_.shape(); }
    // The k <= kTrendMaxRising items that rise most at `now`, best first, of those in the list and those that were
    // clicked since; returns how many there are.
    std::int64_t rising(std::int64_t now, std::int64_t k, std::int32_t* ids, float* scores) const;
    // The whole row of an item at `now`: pairs with their values, tables and what came since added up.
    void row(std::int64_t item, std::int64_t now, std::vector<std::int32_t>& neighbors,
             std::vector<double>& values) const;

    // delta: delta().find(item).
    TrendItem item_at(std::int64_t item, const ItemDelta* delta, std::int64_t now, const TrendFactors& factors) const;
    TrendFactors factors_at(std::int64_t now) const;
    const TrendsDelta& delta() const { return delta_; }
    std::int64_t capacity() const { return delta_.limits().capacity; }

   private:
    struct Rising {
        std::int32_t item;
        float later, all;  // lanes 2 and 3 at the time of the list
        float score;
    };

    void load_own_rows(const TrendsRequest& request, TrendsScratch& scratch) const;
    static void add_pre_scores(const ColumnKernels& kernels, TrendsScratch& scratch);
    void set_query_facts(const TrendsRequest& request, TrendsScratch& scratch) const;
    static void row_totals(const TrendRow& base, const ItemDelta* delta, const TrendFactors& factors, float* totals);
    void set_side_facts(const TrendsRequest& request, TrendsScratch& scratch) const;
    void prefetch_side(std::int64_t item, const TrendsScratch& scratch) const;
    // A candidate's raw side features, kTile apart. popularity: its share of all clicks; first: the age of its first.
    void fill_side(std::int64_t item, const ItemDelta* delta, float popularity, float first, float* column,
                   const TrendsScratch& scratch) const;
    void transform_side(float* columns, std::int64_t count, const ColumnKernels& kernels,
                        const TrendsScratch& scratch) const;
    void rank_rising();
    void rank_base_popular();

    const TrendsView base_;  // as it was: `delta_.base()` has the rows
    TrendsDelta delta_;
    std::vector<std::int32_t> base_popular_;  // that may become popular again, by the tables
    std::vector<Rising> rising_;              // best first
    std::int64_t ranked_at_ = kNever;         // the clicks' time of the list
    std::unordered_set<std::int32_t> found_;  // the items of the list, and those that were clicked since
    std::vector<std::int32_t> clicked_;       // those that were clicked since, in order
    ChangeLock change_lock_;
};

}  // namespace mtaw
