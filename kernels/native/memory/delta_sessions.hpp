// The sessions of a delta, ordered by their last clicks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "compiler.hpp"
#include "keys/index_table.hpp"
#include "memory/arrays.hpp"

namespace mtaw {

// A session is known by its slot, which stays what it is while others come and go. Its position in the order changes
// with every click on any of them; it is counted, not kept: every click has a stamp, of a session only the last one's
// bit is set, and a session's position is the number of bits before its own.
class DeltaSessions {
   public:
    struct Session {
        ShortArray<std::int32_t> clicks;
        ShortArray<std::int32_t> firsts;      // the positions of its first clicks on each item
        std::int32_t newer = -1, older = -1;  // slots: its neighbors among those with the same hash
    };

    // The slot of a handle, -1 = none.
    [[nodiscard]] std::int32_t find(std::int64_t handle) const;
    // The slot of a session with exactly these clicks, the one that came to them last; -1 = none.
    [[nodiscard]] std::int32_t find_clicks(const std::int32_t* clicks, std::int64_t n_clicks) const;
    // A session without clicks, behind all others.
    std::int32_t add(std::int64_t handle);
    void remove(std::int32_t slot);
    // Appends a click and moves the session behind all others; whether it is its first on the item.
    bool append(std::int32_t slot, std::int32_t item);

    [[nodiscard]] const Session& at(std::int32_t slot) const { return sessions_[static_cast<std::size_t>(slot)]; }
    [[nodiscard]] std::int64_t handle(std::int32_t slot) const {
        return static_cast<std::int64_t>(handles_[static_cast<std::size_t>(slot)]);
    }
    [[nodiscard]] std::int32_t distinct(std::int32_t slot) const {
        return facts_[static_cast<std::size_t>(slot)].distinct;
    }
    // What it adds to a pair's aa.
    [[nodiscard]] double share(std::int32_t slot) const { return 1.0 / std::max(distinct(slot) - 1, 1); }
    // How many sessions were clicked last before this one was.
    [[nodiscard]] std::int64_t position(std::int32_t slot) const { return position_of_stamp(stamp(slot)); }
    // Stamps rise with every click; a session's is that of its last one, until `compress` renews all of them.
    [[nodiscard]] std::int32_t stamp(std::int32_t slot) const { return facts_[static_cast<std::size_t>(slot)].stamp; }
    [[nodiscard]] std::int64_t position_of_stamp(std::int32_t stamp) const {
        const auto word = static_cast<std::size_t>(stamp >> 6);
        return ones_before_word_[word] + count_ones(stamp_bits_[word] & ((std::uint64_t{1} << (stamp & 63)) - 1));
    }
    void prefetch_stamp(std::int32_t stamp) const {
        MTAW_PREFETCH(stamp_bits_.data() + (stamp >> 6));
        MTAW_PREFETCH(ones_before_word_.data() + (stamp >> 6));
    }
    // Of a stamp that a session has.
    [[nodiscard]] std::int32_t slot_of_stamp(std::int32_t stamp) const {
        return slot_by_stamp_[static_cast<std::size_t>(stamp)];
    }
    // How many of the sessions that existed at `mark` have not been clicked since; and a mark of now.
    [[nodiscard]] std::int64_t before(std::int32_t mark) const;
    [[nodiscard]] std::int32_t mark() const { return static_cast<std::int32_t>(slot_by_stamp_.size()); }

    [[nodiscard]] std::int64_t count() const { return count_; }
    [[nodiscard]] std::int64_t n_clicks() const { return n_clicks_; }
    // All slots in order.
    [[nodiscard]] std::vector<std::int32_t> ordered() const;
    [[nodiscard]] std::int64_t n_bytes() const;
    // Drops the stamps that no session has any longer, if they are the majority; `marks` renews marks.
    template <typename Marks>
    void compress(const Marks& marks);
    [[nodiscard]] bool is_sparse() const { return mark() > 4 * count_ + kSpareStamps; }

   private:
    struct Facts {
        std::int32_t stamp;
        std::int32_t distinct;
    };
    static constexpr std::int64_t kSpareStamps = 1 << 14;

    // Without an instruction of its own, which not every x86-64 CPU has, a call to the library's takes longer.
    [[nodiscard]] static std::int64_t count_ones(std::uint64_t x) {
        x -= (x >> 1) & 0x5555555555555555U;
        x = (x & 0x3333333333333333U) + ((x >> 2) & 0x3333333333333333U);
        x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0FU;
        return static_cast<std::int64_t>((x * 0x0101010101010101U) >> 56);
    }
    void link(std::int32_t slot);
    void unlink(std::int32_t slot);
    void release_stamp(std::int32_t stamp);
    void assign_stamp(std::int32_t slot);
    void restamp(const std::vector<std::int32_t>& slots);

    std::vector<Session> sessions_;
    std::vector<Facts> facts_;  // by slot, apart from what is read less often
    std::vector<std::int32_t> free_slots_;
    std::vector<std::uint64_t> handles_, hashes_;  // by slot; a hash is that of the clicks
    IndexTable slot_by_handle_;
    IndexTable slot_by_hash_;                     // of the newest session with those clicks
    std::vector<std::int32_t> slot_by_stamp_;     // -1 = clicked again since, or gone
    std::vector<std::uint64_t> stamp_bits_;       // a bit a stamp: whether a session still has it
    std::vector<std::int32_t> ones_before_word_;  // bits set before each word
    std::int64_t count_ = 0, n_clicks_ = 0;
};

template <typename Marks>
void DeltaSessions::compress(const Marks& marks) {
    marks([&](std::int32_t mark) { return static_cast<std::int32_t>(before(mark)); });
    restamp(ordered());
}

}  // namespace mtaw
