// The tables of the session memory as a query reads them.
#pragma once

#include <cstdint>

namespace mtaw {

// The columns of MemoryView::values and ::totals.
enum ValueKind : int { kValueNext, kValueFwd, kValueBwd, kValueSes, kValueAa, kValueRec, kValueKinds };
// The columns of MemoryView::counts.
enum CountKind : int { kCountClicks, kCountSessions, kCountLater, kCountAtOnce, kCountNewest, kCountKinds };

// N items, S sessions in order of time, P kept pairs. The arrays are the caller's and checked: every id lies in 0..N-1,
// every session in 0..S-1, all offsets rise.
struct MemoryView {
    std::int64_t n_items;
    std::int64_t n_sessions;
    double recency;                       // sessions after which a pair's weight in `rec` falls to 1/e
    const std::int64_t* row_offsets;      // [N + 1]
    const std::int32_t* neighbours;       // [P], of a row the strongest first
    const std::int32_t* latest;           // [P] the latest session with both
    const std::uint16_t* values;          // [P, kValueKinds] bfloat16; rec relative to the row's newest session
    const float* totals;                  // [N, kValueKinds] of the whole row, before it was cut
    const std::int32_t* counts;           // [N, kCountKinds]
    const std::int64_t* post_offsets;     // [N + 1]
    const std::int32_t* postings;         // the latest sessions of an item, ascending
    const std::int64_t* session_offsets;  // [S + 1]
    const std::int32_t* session_items;
};

}  // namespace mtaw
