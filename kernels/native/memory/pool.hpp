// The items that a query has met so far, and what was summed up about each.
//
// The functions here are static: each build for an instruction set keeps copies of its own.
#pragma once

#include <cstdint>

#include "compiler.hpp"
#include "memory/view.hpp"

namespace mtaw {

// What the rows of the session's own items u add to an item: sum over u of weight_u * value(u, item), the value divided
// by its row's total + 1. Weights: `dec` falls with the clicks back, `all` is even, `last` and `prev` are 1 for the
// latest item or the one before it alone.
enum SumLane : int {
    kNextLast, kNextDec, kFwdDec, kFwdLast, kFwdPrev, kBwdDec, kSesDec, kSesAll, kSesLast,
    kCosDec, kCosAll,  // ses / sqrt(total of u + 1); the item's own root is multiplied on at the end
    kRecDec, kRecAll, kAaDec,
    kReached,  // the rows that hold it
    kSumLanes = 16
};

// Which of a pair's values goes into which lane; kLaneOne is the number 1, kLaneNone is 0.
constexpr std::int32_t kLaneOne = kPairKinds, kLaneNone = kPairKinds + 1;
alignas(64) constexpr std::int32_t kLaneValues[kSumLanes] = {
    kNext, kNext, kFwd, kFwd, kFwd, kBwd, kSes, kSes, kSes,
    kSes,  kSes,  kRec, kRec, kAa,  kLaneOne, kLaneNone};

// What else is known of an item.
enum MoreLane : int {
    kSecond,  // by two steps from the latest item
    kKnn, kKnnFresh, kKnnNear, kKnnAfter, kKnnNext,  // from similar sessions
    kDensePlace,  // 1 + its place in the dense list, 0 = outside
    kLogit,
    kMoreLanes
};

struct SlotHead {
    std::int32_t item;
    std::int32_t latest;  // session that holds it together with an own item, -1 = none
    float near;           // 1 / (1 + clicks back) of the latest own item whose row holds it, 0 = none
    float inverse_root;   // 1 / sqrt(its total of ses + 1)
};

// Slots are handed out in the order in which items are met, the session's own first.
struct Pool {
    std::int32_t* place;  // [catalog] 1 + slot, 0 = none; all 0 between queries
    SlotHead* heads;
    float* sums;  // [slots, kSumLanes], each on a cache line
    float* more;  // [slots, kMoreLanes]
    std::int32_t count;
};

static MTAW_INLINE std::int32_t add_slot(Pool& pool, std::int32_t item) {
    const std::int32_t slot = pool.count++;
    pool.place[item] = slot + 1;
    pool.heads[slot] = {item, -1, 0.0F, 0.0F};
    float* const sums = pool.sums + static_cast<std::int64_t>(slot) * kSumLanes;
    float* const more = pool.more + static_cast<std::int64_t>(slot) * kMoreLanes;
    for (int lane = 0; lane < kSumLanes; ++lane) sums[lane] = 0.0F;
    for (int lane = 0; lane < kMoreLanes; ++lane) more[lane] = 0.0F;
    return slot;
}

static MTAW_INLINE std::int32_t slot_of(Pool& pool, std::int32_t item) {
    const std::int32_t place = pool.place[item];
    return place != 0 ? place - 1 : add_slot(pool, item);
}

}  // namespace mtaw
