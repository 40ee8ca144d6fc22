// The distinct items of a session, its own items, and the features of its clicks' types.
#pragma once

#include <cstdint>

#include "column_kernels.hpp"
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

// Lists the latest `limit` (at most kMaxOwn) distinct items of clicks int32[n_clicks], into an empty pool. n_clicks is
// in 1..kMaxClicks.
void list_own_items(const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t limit, OwnItems& own, Pool& pool);

// Features made from the types of a session's clicks, such as view, cart and purchase. For each type
//
//   e_last   1 if the session's last click has it
//   e_near   1 if the latest own item whose row holds the candidate was last clicked with it
//   e_own    of a candidate in the session: 1 if its latest click has it, 0.5 if only an earlier one has
//
// and 0 otherwise, so that a click of unknown type is neutral. tests/memory/reference/types.py has the same in Python.
constexpr std::int64_t kMaxTypes = 8;   // that a ranker reads; bits of a byte
constexpr std::int64_t kTypeParts = 3;  // features a type

// The types of a session's clicks, as the features read them.
class ClickTypes {
   public:
    // types: uint8[n_clicks], of all clicks int32[n_clicks]; a code from n_types on is unknown, and null if all are.
    // own: as list_own_items gives it.
    void set(const std::int32_t* clicks, const std::uint8_t* types, std::int64_t n_clicks, std::int64_t n_types,
             const OwnItems& own, const Pool& pool);

    // e_last: float32[n].
    void fill_query(float* out) const;
    // e_near of the candidates in `slots`: columns [n, kTile].
    void fill_near(const Pool& pool, const std::int32_t* slots, std::int64_t count, float* columns) const;
    // e_own of them, likewise.
    void fill_own(const std::int32_t* slots, std::int64_t count, float* columns) const;

   private:
    // The type of the click `back` clicks before the last one; n_types_ or more if unknown.
    [[nodiscard]] std::int64_t type_at(std::int64_t back) const {
        return types_ == nullptr ? n_types_ : types_[n_clicks_ - 1 - back];
    }

    std::int64_t n_types_ = 0, n_clicks_ = 0, n_own_ = 0;
    const std::uint8_t* types_ = nullptr;
    std::uint8_t last_type_[kMaxOwn];  // by own item: the type of its latest click
    std::uint8_t type_bits_[kMaxOwn];  // a bit for each type of its clicks
};

}  // namespace mtaw
