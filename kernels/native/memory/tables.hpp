// The tables of the session memory: what past sessions tell about pairs of items.
//
// Axes: N items, S sessions (oldest first), T clicks in them, P kept pairs.
#pragma once

#include <cstdint>
#include <limits>

namespace mtaw {

// Statistics of the ordered pair (a, b), a != b, summed over all sessions:
//   next  b directly after a
//   fwd   1/distance for every click on b after one on a, at most `window` clicks apart;  bwd the same with b before a
//   ses   1 for every session with both whose first clicks on them are at most `span` apart
//   aa    ses, where a session weighs 1/(its distinct items - 1)
//   rec   the terms of fwd and bwd, each times exp(-(newest - session)/recency); newest: the latest session with a
// Sessions from `once_from` on count a pair once, however often they repeat a click: of them next, fwd, bwd and rec see
// each item at its first click alone, and distances count distinct items.
// `rec` ages with the reader: at S sessions it is the stored one times exp(-(S - 1 - newest)/recency). So a row depends
// only on the sessions that contain its item.
enum PairKind : int { kNext, kFwd, kBwd, kSes, kAa, kRec, kPairKinds };

// Of an item: clicks; sessions with it; clicks that the same session repeats later, and as its very next click; the
// latest session with it, -1 without any.
enum CountKind : int { kClicks, kSessions, kRepeatedLater, kRepeatedAtOnce, kNewest, kCountKinds };

constexpr std::int64_t kNoSession = std::numeric_limits<std::int64_t>::max();  // comes after all sessions

struct MemorySettings {
    std::int64_t window;                  // clicks
    std::int64_t span;                    // clicks
    double recency;                       // sessions after which a pair's weight in `rec` has fallen to 1/e
    std::int64_t max_neighbors;           // of an item; 0 keeps all
    std::int64_t max_postings;            // of an item; 0 keeps all
    std::int64_t once_from = kNoSession;  // the first session that counts a pair once

    [[nodiscard]] bool once(std::int64_t session) const { return session >= once_from; }
};

// Packed sessions of clicks on items 0..n_items-1, in order of time.
struct PastSessions {
    const std::int32_t* items;    // [T]
    const std::int64_t* offsets;  // [S + 1]
    std::int64_t count;           // S
    std::int64_t n_items;         // N
};

// Where the tables' arrays are. Row a is [row_offsets[a], row_offsets[a + 1]): its neighbors by falling strength, the
// sum over fwd, bwd, ses, rec of value / (total + 1) before rounding, ties by rising id, cut after max_neighbors.
template <template <typename> class Pointer>
struct BasicTables {
    std::int64_t n_items, n_sessions;
    Pointer<std::int64_t> row_offsets;      // [N + 1]
    Pointer<std::int32_t> neighbors;        // [P]
    Pointer<std::int32_t> latest;           // [P] the latest session that adds to the pair
    Pointer<std::uint16_t> values;          // [P, kPairKinds] bfloat16
    Pointer<float> totals;                  // [N, kPairKinds] of the whole row, before the cut
    Pointer<std::int32_t> counts;           // [N, kCountKinds]
    Pointer<std::int64_t> post_offsets;     // [N + 1]
    Pointer<std::int32_t> postings;         // the latest max_postings sessions with the item, ascending
    Pointer<std::int64_t> session_offsets;  // [S + 1]
    Pointer<std::int32_t> session_items;    // [T]
};

template <typename T>
using ReadPointer = const T*;
template <typename T>
using WritePointer = T*;

using TablesView = BasicTables<ReadPointer>;
using TablesOut = BasicTables<WritePointer>;

}  // namespace mtaw
