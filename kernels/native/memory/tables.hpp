// The tables of the session memory: what past sessions tell about pairs of items.
//
// Axes: N items, S sessions (oldest first), T clicks in them, P kept pairs.
#pragma once

#include <bit>
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

// 16-bit numbers of the tables.

// To the nearest, ties to even; the value is finite and not negative.
inline std::uint16_t to_bfloat16(double value) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

inline float from_bfloat16(std::uint16_t value) { return std::bit_cast<float>(std::uint32_t{value} << 16); }

// The arrays are the caller's, and check_tables has passed them.
struct MemoryView : TablesView {
    double recency;  // MemorySettings', as the next one
    std::int64_t once_from = kNoSession;
};

// Rows and sessions as the kernels read them, wherever they are stored.

// A row of the tables, or its replacement.
struct RowView {
    const std::int32_t* neighbors;
    const std::int32_t* latest;
    const std::uint16_t* values;  // [count, kPairKinds]
    std::int64_t count;
    const float* totals;  // [kPairKinds]; null if there is no row
};

// What comes to a row of the tables.
struct DeltaRowView {
    const std::int32_t* neighbors;
    const std::int32_t* latest;  // 1 + the latest session, 0 = none
    const float* values;         // [count, 8]: what comes to each value; 1 if the tables lack the pair; 0
    std::int64_t count;
};

// Throws std::invalid_argument naming the array and the index unless all offsets run from 0 up to the ends of their
// arrays; neighbors and clicks are items, `latest` and postings sessions, postings ascending; rows and postings are
// no longer than the settings allow; counts fit each other; values and totals are finite and not negative.
// Reads every array once.
void check_tables(const TablesView& tables, const MemorySettings& settings, std::int64_t n_pairs,
                  std::int64_t n_postings, std::int64_t n_clicks);

}  // namespace mtaw
