// The distinct items of a session, its own items.
#pragma once

#include <cstdint>

#include "memory/pool.hpp"

namespace mtaw {

constexpr std::int64_t kMaxOwn = 64;      // own items that are read
constexpr std::int64_t kMaxClicks = 512;  // clicks of a session that are read, the latest ones

// "Back" counts clicks: 0 is the session's last one.
struct OwnItem {
    std::int32_t item;
    std::int32_t back;   // of its latest click
    std::int32_t first;  // of its earliest click
    std::int32_t gap;    // back of its second latest click minus that of its latest, -1 with a single click
    std::int32_t count;  // clicks
    std::int32_t next;   // times it directly followed an earlier click on the last item
    std::int32_t near;   // times it was among the three clicks after one
    float decayed;       // the sum of 0.8^back over its clicks, divided by that over all clicks
};

struct OwnItems {
    OwnItem list[kMaxOwn];  // the latest first; item u has slot u of the pool
    std::int64_t count;
    std::int64_t clicks;                        // how many the session has
    std::int32_t streak;                        // how many clicks at its end are on one item
    std::int32_t counts[kMaxOwn][kCountKinds];  // of item u, by other sessions
};

// 0.85^back: the weight of a click in the search for similar sessions.
float session_decay(std::int32_t back);

// Lists the latest `limit` (at most kMaxOwn) distinct items of clicks int32[n_clicks], into an empty pool. n_clicks is
// in 1..kMaxClicks.
void list_own_items(const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t limit, OwnItems& own, Pool& pool);

}  // namespace mtaw
