// A session's own distinct items.
#pragma once

#include <cstdint>

#include "memory/pool.hpp"

namespace mtaw {

constexpr std::int64_t kMaxOwn = 64;      // distinct items of a session that are looked at, at most
constexpr std::int64_t kMaxClicks = 512;  // clicks of a session that are looked at: the latest

// "Back" counts clicks: 0 is the session's last one.
struct OwnItem {
    std::int32_t item;
    std::int32_t back;   // of its latest click
    std::int32_t first;  // of its earliest click
    std::int32_t gap;    // clicks between its latest two, -1 = it has one only
    std::int32_t count;  // clicks
    std::int32_t next;   // times it directly followed an earlier click on the last item
    std::int32_t near;   // times it was among the three clicks after one
    float decayed;       // sum over its clicks of 0.8^back, divided by that of all
};

struct OwnItems {
    OwnItem list[kMaxOwn];  // the latest first; item u has slot u of the pool
    std::int64_t count;
    std::int64_t clicks;  // of the session
    std::int32_t streak;  // clicks at the end that are on one item
    std::int32_t counts[kMaxOwn][kCountKinds];  // what others made of item u
};

// 0.85^back, what a click `back` ago weighs in the search for similar sessions.
float session_decay(std::int32_t back);

// The latest `most` (at most kMaxOwn) distinct items of clicks int32[n_clicks], into an empty pool. n_clicks is in
// 1..kMaxClicks.
void list_own_items(const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t most, OwnItems& own, Pool& pool);

}  // namespace mtaw
