// The features of a candidate: names and formulas. The ranker's weights follow this order (query,
// candidate, own). CONTRIBUTING.md says where else a feature has to be written.
//
// F(name, transform, shift, x): the feature is log(x + shift) for Log, x for Plain. x may use
//   query     what the query knows: QueryFacts
//   sum       the candidate's SumLane values, the cosine lanes already times its own root
//   signals   its SignalLane values
//   counts    its row of TablesView::counts
//   own       its OwnItem, for the own features, which are 0 for every other candidate
// An own feature under Log needs x + shift > 0 and takes 1 for the candidates that have none.
#pragma once

#include <cstdint>

#include "memory/kernels.hpp"
#include "memory/own_items.hpp"
#include "memory/pool.hpp"

#define MTAW_QUERY_FEATURES(F)                       \
    F(length, Log, 1.0F, query.clicks)               \
    F(last_sessions, Log, 1.0F, query.last_sessions) \
    F(distinct, Log, 1.0F, query.distinct)           \
    F(repeat_rate, Plain, 0.0F, 1.0F - query.distinct / query.clicks)

#define MTAW_CANDIDATE_FEATURES(F)                                                \
    F(next_last, Log, 1e-4F, sum[kNextLast])                                      \
    F(next_dec, Log, 1e-4F, sum[kNextDec])                                        \
    F(fwd_dec, Log, 1e-4F, sum[kFwdDec])                                          \
    F(fwd_last, Log, 1e-4F, sum[kFwdLast])                                        \
    F(fwd_prev, Log, 1e-4F, sum[kFwdPrev])                                        \
    F(bwd_dec, Log, 1e-4F, sum[kBwdDec])                                          \
    F(ses_dec, Log, 1e-4F, sum[kSesDec])                                          \
    F(ses_all, Log, 1e-4F, sum[kSesAll])                                          \
    F(ses_last, Log, 1e-4F, sum[kSesLast])                                        \
    F(cos_dec, Log, 1e-4F, sum[kCosDec] * signals[kInverseRoot])                  \
    F(cos_all, Log, 1e-4F, sum[kCosAll] * signals[kInverseRoot])                  \
    F(rec_dec, Log, 1e-4F, sum[kRecDec])                                          \
    F(rec_all, Log, 1e-4F, sum[kRecAll])                                          \
    F(aa_dec, Log, 1e-4F, sum[kAaDec])                                            \
    F(reached, Log, 1.0F, sum[kReached])                                          \
    F(reach_near, Plain, 0.0F, signals[kNear])                                    \
    F(latest, Log, 1e-4F, (query.after - signals[kLatest]) * query.per_session)   \
    F(second, Log, 1e-4F, signals[kSecond])                                       \
    F(pre, Log, 1e-4F, signals[kPreScore])                                        \
    F(clicks, Log, 1.0F, counts[kClicks])                                         \
    F(sessions, Log, 1.0F, counts[kSessions])                                     \
    F(newest, Log, 1e-4F, (query.sessions - counts[kNewest]) * query.per_session) \
    F(logit, Plain, 0.0F, signals[kLogit])                                        \
    F(logit_gap, Plain, 0.0F, signals[kLogit] - query.best_logit)                 \
    F(dense_rank, Log, 1.0F, query.outside - signals[kDenseLead])

#define MTAW_OWN_FEATURES(F)                                                                         \
    F(own, Plain, 0.0F, 1.0F)                                                                        \
    F(own_back, Log, 1.0F, static_cast<float>(own.back))                                             \
    F(own_last, Plain, 0.0F, own.back == 0 ? 1.0F : 0.0F)                                            \
    F(own_count, Log, 0.0F, static_cast<float>(own.count))                                           \
    F(own_share, Plain, 0.0F, static_cast<float>(own.count) / query.clicks)                          \
    F(own_later, Log, 0.0F, odds_of(counts[kRepeatedLater], counts[kClicks]))                        \
    F(own_once, Log, 0.0F, own.back == 0 ? odds_of(counts[kRepeatedAtOnce], counts[kClicks]) : 1.0F) \
    F(own_next, Log, 1.0F, static_cast<float>(own.next))                                             \
    F(own_near, Log, 1.0F, static_cast<float>(own.near))                                             \
    F(own_first, Log, 1.0F, static_cast<float>(own.first))                                           \
    F(own_gap, Plain, 0.0F, own.gap < 0 ? 0.0F : 1.0F / (1.0F + static_cast<float>(own.gap)))        \
    F(own_streak, Log, 0.0F, own.back == 0 ? query.streak : 1.0F)                                    \
    F(own_rank, Plain, 0.0F, 1.0F / (1.0F + rank))

namespace mtaw {

class MergedTables;
struct CurrentSession;

// The features that are the same for all candidates of a query, those of every candidate, and those of own items.
#define MTAW_COUNT(...) +1
constexpr std::int64_t kQueryFeatures = 0 MTAW_QUERY_FEATURES(MTAW_COUNT);
constexpr std::int64_t kCandidateFeatures = 0 MTAW_CANDIDATE_FEATURES(MTAW_COUNT);
constexpr std::int64_t kOwnFeatures = 0 MTAW_OWN_FEATURES(MTAW_COUNT);
#undef MTAW_COUNT
constexpr std::int64_t kColumns = kCandidateFeatures + kOwnFeatures;
constexpr std::int64_t kFeatures = kQueryFeatures + kColumns;

// By name, in order: kFeatures of them.
extern const char* const kFeatureNames[];

struct QueryFacts {
    float clicks;         // m, of those that are looked at
    float distinct;       // own items
    float streak;         // clicks at the end on one item
    float last_sessions;  // sessions that hold the last item
    float sessions;       // S
    float after;          // S + 1
    float per_session;    // 1 / (S + 1)
    float best_logit;     // of the dense list
    float outside;        // the length of the dense list; 0 if there is none
};

// What decides which other items become candidates.
static inline float pre_score(const float* sum, const float* signals) {
    return sum[kFwdDec] + sum[kBwdDec] + sum[kSesAll] + 0.5F * (sum[kCosDec] * signals[kInverseRoot] + sum[kNextLast]) +
           sum[kRecAll];
}

// What decides which candidates of a request with trends are ranked, from what is known before their features. The
// weights are those with which the fewest of the ranker's best 20 were lost, on logs with and without drift.
// per_dense: 1 / the most dense candidates.
static inline float quick_score(const float* signals, float per_dense) {
    return signals[kPreScore] + signals[kTrending] + 12.0F * signals[kSecond] +
           0.1F * (signals[kDenseLead] * per_dense);
}

// What the features of a query's candidates are made from.
struct FeatureSource {
    const MergedTables& memory;
    const OwnItems& own;
    const CurrentSession& current;
    const Pool& pool;
    const QueryFacts& facts;
};

// The query features: float32[kQueryFeatures], with room for kPadding more.
void query_features(const QueryFacts& facts, const MemoryKernels& kernels, float* out);

// The other features of the candidates in `slots`, at most kTile: columns [kColumns, kTile]. Returns how many of the
// columns count: of a tile without own items kCandidateFeatures, the others being 0 then, but not written.
std::int64_t fill_tile(const FeatureSource& source, const std::int32_t* slots, std::int64_t count,
                       const MemoryKernels& kernels, float* columns);

}  // namespace mtaw
