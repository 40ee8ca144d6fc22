// The pool of a query: the items met so far, and the sums of each.
//
// The functions here are static: each build for an instruction set keeps copies of its own.
#pragma once

#include <cstdint>

#include "compiler.hpp"
#include "memory/tables.hpp"

namespace mtaw {

// What the rows of the session's own items u add to an item: sum over u of weight_u * value(u, item), the value divided
// by its row's total + 1. Weights: `dec` falls with the clicks back, `all` is even, `last` and `prev` are 1 for the
// latest item or the one before it alone.
enum SumLane : int {
    kNextLast,
    kNextDec,
    kFwdDec,
    kFwdLast,
    kFwdPrev,
    kBwdDec,
    kSesDec,
    kSesAll,
    kSesLast,
    kCosDec,
    kCosAll,  // ses / sqrt(total of u + 1); the item's own root is multiplied on at the end
    kRecDec,
    kRecAll,
    kAaDec,
    kReached,  // the rows that hold it
    kSumLanes = 16
};

// Which of a pair's values goes into which lane; kLaneOne is the number 1, kLaneNone is 0.
constexpr std::int32_t kLaneOne = kPairKinds, kLaneNone = kPairKinds + 1;
alignas(64) constexpr std::int32_t kLaneValues[kSumLanes] = {kNext, kNext, kFwd, kFwd, kFwd, kBwd, kSes,     kSes,
                                                             kSes,  kSes,  kSes, kRec, kRec, kAa,  kLaneOne, kLaneNone};

// The signals of an item: all else that is known of it.
enum SignalLane : int {
    kSecond,     // by two steps from the latest item
    kDenseLead,  // positions from its own in the dense list to the end of the list, 0 = not in the list
    kLogit,
    kInverseRoot,  // 1 / sqrt(its total of ses + 1)
    kPreScore,
    kTrending,  // the pre-score of a candidate of the trends, at least kMinTrending; 0 = it is none of theirs
    kNear,      // 1 / (1 + clicks back) of the latest own item whose row holds it, 0 = none
    kLatest,    // 1 + the latest session that holds it together with an own item, 0 = none
    kSignalLanes = 16
};

constexpr float kMinTrending = 0x1p-126F;

// Slots are handed out in the order in which items are met, the session's own first. All sums and signals of free slots
// are 0, so that handing one out takes no branch, which would be mispredicted every other time.
struct Pool {
    std::int32_t* slot_plus_one;  // [catalog], 0 = none
    std::int32_t* items;          // [slots + 1]
    float* sums;                  // [slots, kSumLanes], each on a cache line
    float* signals;               // [slots, kSignalLanes], likewise
    std::int32_t count;
    const float* ses;  // totals that the pre-score reads: that of item i is ses[i * ses_stride]
    std::int64_t ses_stride;
    std::int64_t n_known;  // items with such a total
};

static MTAW_INLINE float* sums_of(const Pool& pool, std::int32_t slot) {
    return pool.sums + static_cast<std::int64_t>(slot) * kSumLanes;
}

static MTAW_INLINE float* signals_of(const Pool& pool, std::int32_t slot) {
    return pool.signals + static_cast<std::int64_t>(slot) * kSignalLanes;
}

static MTAW_INLINE std::int32_t slot_of(Pool& pool, std::int32_t item) {
    const std::int32_t entry = pool.slot_plus_one[item];
    const std::int32_t slot = entry == 0 ? pool.count : entry - 1;
    pool.count += entry == 0 ? 1 : 0;
    pool.slot_plus_one[item] = slot + 1;
    pool.items[slot] = item;
    return slot;
}

// As slot_of, for an item from the tables; prefetches what its pre-score reads.
static MTAW_INLINE std::int32_t slot_of_known(Pool& pool, std::int32_t item) {
    const std::int64_t prefetched = item < pool.n_known ? item : 0;
    MTAW_PREFETCH(pool.ses + prefetched * pool.ses_stride);
    return slot_of(pool, item);
}

}  // namespace mtaw
