// The features made from wall-clock time: names and formulas. This is the only list of them;
// tests/memory/reference/trends.py has the same formulas in Python. A number at a name's end is a lane: item lanes 0 ..
// 6 are the half-lives in their order, pair lanes 0 .. 4 the last five of them.
//
// F(name, transform, shift, x): log(x + shift) for Log, x for Plain. x may use
//   query  what is the same for all candidates: TrendFacts
//   all, later    decayed counts of the candidate's clicks, and of those that are not their session's first
//   fwd, bwd      decayed sums of its pairs with the last own item
//   fwd_own, bwd_own  the same with all own items, item u of them (the latest is 0) weighing 0.75^u
//   pre           the pre-score that chooses candidates
//   first, last   seconds since its first and its last click
// A share is smoothed by the lane's mean over all items, so that nothing is 0 and an item without a past is neutral.
#pragma once

#include <cstdint>

#include "column_kernels.hpp"
#include "trends/tables.hpp"

#define MTAW_TREND_QUERY_FEATURES(F)                   \
    F(t_gap, Log, 1.0F, query.gap)                     \
    F(t_span, Log, 1.0F, query.span)                   \
    F(t_last_age, Log, 1.0F, query.last_first / 60.0F) \
    F(t_last_later, Log, 0.0F, query.last_later)       \
    F(t_last_pairs, Log, 1.0F, query.last_pairs)       \
    F(t_pairs, Log, 1.0F, query.pairs)                 \
    F(t_clicks_short, Log, 1.0F, query.clicks_short)   \
    F(t_clicks_long, Log, 1.0F, query.clicks_long)     \
    F(t_hour_sin, Plain, 0.0F, query.hour_sin)         \
    F(t_hour_cos, Plain, 0.0F, query.hour_cos)
#define MTAW_TREND_ALL(F, lane) F(t_all_##lane, Log, 0.0F, (all[lane] + 0.05F) * query.per_all[lane])
#define MTAW_TREND_LATER(F, lane) F(t_later_##lane, Log, 0.0F, (later[lane] + 0.05F) * query.per_later[lane])
#define MTAW_TREND_FWD(F, lane) F(t_fwd_last_##lane, Log, 0.0F, (fwd[lane] + prior[lane]) * query.per_fwd[lane])
#define MTAW_TREND_BWD(F, lane) F(t_bwd_last_##lane, Log, 0.0F, (bwd[lane] + prior[lane]) * query.per_bwd[lane])
#define MTAW_TREND_FWD_OWN(F, lane) F(t_fwd_##lane, Log, 0.0F, (fwd_own[lane] + prior[lane]) * query.per_fwd_own[lane])
#define MTAW_TREND_BWD_OWN(F, lane) F(t_bwd_##lane, Log, 0.0F, (bwd_own[lane] + prior[lane]) * query.per_bwd_own[lane])
// The half-lives that improved a ranker of a news log; more of them add nothing.
#define MTAW_TREND_ITEM_LANES(M, F) M(F, 1) M(F, 2) M(F, 3) M(F, 4) M(F, 5)
#define MTAW_TREND_LAST_LANES(M, F) M(F, 0) M(F, 1) M(F, 2) M(F, 3)
#define MTAW_TREND_OWN_LANES(M, F) M(F, 1) M(F, 3)
#define MTAW_TREND_CANDIDATE_FEATURES(F)        \
    MTAW_TREND_ITEM_LANES(MTAW_TREND_ALL, F)    \
    MTAW_TREND_ITEM_LANES(MTAW_TREND_LATER, F)  \
    MTAW_TREND_LAST_LANES(MTAW_TREND_FWD, F)    \
    MTAW_TREND_LAST_LANES(MTAW_TREND_BWD, F)    \
    MTAW_TREND_OWN_LANES(MTAW_TREND_FWD_OWN, F) \
    MTAW_TREND_OWN_LANES(MTAW_TREND_BWD_OWN, F) \
    F(t_pre, Log, 1e-5F, pre)                   \
    F(t_first, Log, 1.0F, first / 60.0F)        \
    F(t_last, Log, 1.0F, last)

namespace mtaw {

#define MTAW_COUNT(...) +1
constexpr std::int64_t kTrendQueryFeatures = 0 MTAW_TREND_QUERY_FEATURES(MTAW_COUNT);
constexpr std::int64_t kTrendColumns = 0 MTAW_TREND_CANDIDATE_FEATURES(MTAW_COUNT);
#undef MTAW_COUNT
constexpr std::int64_t kTrendFeatures = kTrendQueryFeatures + kTrendColumns;

// The names of the kTrendFeatures features, those of a query first.
extern const char* const kTrendFeatureNames[];

// Ages since a first click. An item without a click has age 0, which may be many deviations from all that the ranker
// was fitted on; the ranker takes these features at most kMaxDeviations from their means.
constexpr const char* kBoundedFeatures[] = {"t_last_age", "t_first"};
constexpr double kMaxDeviations = 3.0;

// What the trends say about a query at its time `now`: times in seconds, and decayed sums.
struct TrendFacts {
    float gap, span;   // between the session's last two clicks, and between its first and its last; 0 if unknown
    float last_first;  // since the first click on the session's last item
    float last_later;  // the last item's share of later clicks in lane 3
    float last_pairs;  // the last item's total of fwd in pair lane 1
    float pairs;       // the total of fwd in pair lane 3, over all own items
    float clicks_short, clicks_long;  // clicks on all items: later ones in lane 2, all in lane 5
    float hour_sin, hour_cos;
    float per_all[kItemLanes], per_later[kItemLanes];        // 1 / (the total of all items + 1)
    float per_fwd[kPairLanes], per_bwd[kPairLanes];          // 1 / (the row's total + 3)
    float per_fwd_own[kPairLanes], per_bwd_own[kPairLanes];  // 1 / (all rows' weighed total + 3)
    float prior_scale[kPairLanes];                           // 3 / (the total of later clicks + 10)
};

// The pair sums of one candidate, from which its features are made. It fills whole cache lines.
struct alignas(64) TrendSums {
    float values[32];  // kOwnRows.., kPreScore; kLast..

    static constexpr int kOwnRows = 0;  // [kPairSums], with all own items, weighted
    static constexpr int kPreScore = kPairSums;
    static constexpr int kLast = 16;  // [kPairSums], with the last own item
};

// A row of the tables, or a run of its pairs.
struct TrendPairs {
    const std::int32_t* neighbors;
    const std::uint16_t* values;  // bfloat16[count, kPairSums]
    std::int64_t count;
};

// Pre-scores by item come in blocks, of which those that have one are marked with 1.
constexpr int kBlockBits = 4;
constexpr std::int64_t kBlock = 1 << kBlockBits;
constexpr std::int64_t kMarkWord = 8;  // marks are read by so many

// query_out: float32[kTrendQueryFeatures], with room for kPadding more.
void trend_query_features(const TrendFacts& query, const ColumnKernels& kernels, float* query_out);

// Decayed counts and times of one candidate, in one cache line.
struct alignas(64) TrendItem {
    float values[16];  // the item's kItemSums, kFirst, kLast

    static constexpr int kFirst = kItemSums, kLast = kItemSums + 1;
    float all(int lane) const { return values[lane]; }  // all clicks
    // Clicks that are not the first of their session.
    float later(int lane) const { return values[kItemLanes + lane]; }
    float first() const { return values[kFirst]; }
};

constexpr int kTrendHour = 3, kTrendDay = 5, kTrendQuarter = 2;  // item lanes

// A tile of candidates, and where their raw features go; transform_trends makes the logarithms.
struct TrendTile {
    const TrendFacts* facts;
    const TrendSums* sums;   // [count], without what popularity adds to `pre`
    const TrendItem* items;  // [count]
    std::int64_t count;      // at most kTile
    float* columns;          // [kTrendColumns, kTile] out, in whole sixteens
};

void transform_trends(float* columns, std::int64_t count, const ColumnKernels& kernels);

// Side features: what is known of a candidate beyond clicks on it and its pairs. For each context column of the tables
//
//   c_share   log of its share of the decayed clicks in the visit's value, smoothed by its popularity at large
//   c_lift    log of that share against its popularity at large; 0 if the visit has no value
//
// and of the items' content, for each category column and for a time column
//
//   i_same    1 if its category is the last own item's, -1 if it is another, 0 if one of them is missing
//   i_part    2 * (the part of the own items with a category that have this one) - 1; 0 if none has one, or it has none
//   i_age     log of the minutes since its time, + 1; without a time, since its first click
//
// tests/memory/reference/trends.py has the same formulas in Python.
constexpr std::int64_t kMaxCategories = 4;
constexpr std::int64_t kMaxSide = 2 * kMaxContext + 2 * kMaxCategories + 1;
constexpr float kContextPrior = 50.0F;  // decayed clicks that popularity at large counts as, within a value
constexpr std::int32_t kNoCategory = -1;
constexpr std::int64_t kNoTime = INT64_MIN;

// Columns of an item table. Items past the end have neither category nor time.
struct ItemContent {
    std::int64_t n_items = 0;
    std::int64_t n_categories = 0;
    const std::int32_t* categories[kMaxCategories] = {};  // codes, kNoCategory if missing
    const std::int64_t* created = nullptr;                // ms, kNoTime if missing; null: no such column

    std::int64_t n_features() const { return 2 * n_categories + (created != nullptr ? 1 : 0); }
    std::int32_t category(std::int64_t column, std::int64_t item) const {
        return item < n_items ? categories[column][item] : kNoCategory;
    }
    std::int64_t time(std::int64_t item) const { return item < n_items ? created[item] : kNoTime; }
};

// Columns of side features.
inline std::int64_t n_side_features(const ContextShape& shape, const ItemContent* content) {
    return 2 * shape.n_columns + (content == nullptr ? 0 : content->n_features());
}

}  // namespace mtaw
