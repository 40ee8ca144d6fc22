// External ids of the catalog's items, both ways, over the arrays of a bundle's mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace mtaw {

constexpr std::int32_t kUnknownId = -1;

// The hash of a text id. With mix(h) MurmurHash3's 64-bit finaliser and w_1, w_2, .. the bytes in little-endian words
// of 8, the last one filled up with zeros: h_0 = number of bytes, h_j = mix(h_{j-1} ^ w_j). Stored tables depend on it.
std::uint64_t text_hash(std::string_view text);

// Throws std::invalid_argument unless offsets int64[n_items + 1] rise from 0 to blob_size, the bytes of all texts, for
// less than 2^31 of them.
void check_texts(const std::int64_t* offsets, std::int64_t n_items, std::int64_t blob_size);

// Slots of a hash table for n_items texts: a power of two, at most half of them taken.
std::size_t slot_count(std::int64_t n_items);

// Fills slots uint64[n_slots], all zero before: the text with internal id i goes to the first free slot from
// text_hash mod n_slots on, as (hash's upper 32 bits) << 32 | (i + 1). The texts are blob[offsets[i]..offsets[i + 1]].
// Returns the internal id of a text that is in the table already, or kUnknownId if all are distinct.
std::int32_t fill_slots(const char* blob, const std::int64_t* offsets, std::int64_t n_items, std::uint64_t* slots,
                        std::size_t n_slots);

// N ids, all int64 or all text. Views: the arrays must outlive the table. What a damaged file may hold in `order` and
// `slots` makes ids unknown; `offsets` must have passed check_texts.
// Thread-safe.
class IdTable {
   public:
    // values int64[N] by internal id; sorted int64[N], the same ascending; order int32[N], their internal ids.
    static IdTable of_ints(const std::int64_t* values, const std::int64_t* sorted, const std::int32_t* order,
                           std::int64_t n_items);

    // As fill_slots; n_slots is a power of two.
    static IdTable of_texts(const char* blob, const std::int64_t* offsets, std::int64_t n_items,
                            const std::uint64_t* slots, std::size_t n_slots);

    bool text() const { return slots_ != nullptr; }
    std::int64_t size() const { return n_items_; }

    // Writes the internal id, or kUnknownId, of each of `count` ids, at most kGroup: together, so that the memory's
    // answers for all of them are awaited at once. For a table of ints / of texts.
    static constexpr std::size_t kGroup = 16;
    void find(const std::int64_t* ids, std::size_t count, std::int32_t* found) const;
    void find(const std::string_view* ids, std::size_t count, std::int32_t* found) const;

    // The external id of internal id 0..N-1. For a table of ints / of texts.
    std::int64_t number_of(std::int64_t internal) const { return values_[internal]; }
    std::string_view text_of(std::int64_t internal) const;

    // Prefetches what the two above will read.
    void prefetch(std::int64_t internal) const;

   private:
    std::int64_t n_items_ = 0;
    const std::int64_t* values_ = nullptr;
    const std::int64_t* sorted_ = nullptr;
    const std::int32_t* order_ = nullptr;
    const char* blob_ = nullptr;
    const std::int64_t* offsets_ = nullptr;
    const std::uint64_t* slots_ = nullptr;
    std::size_t n_slots_ = 0;
};

}  // namespace mtaw
