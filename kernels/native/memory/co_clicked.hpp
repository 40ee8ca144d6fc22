// How often two items are in the same past session, from the tables, without the sessions that were forgotten since.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base_rows.hpp"
#include "memory/delta.hpp"
#include "memory/tables.hpp"

namespace mtaw {

constexpr std::size_t kMaxReasons = 3;  // items of the session that speak for one

class CoClicked {
   public:
    // delta: of the tables, or null; it does not change as long as this lives. Both must outlive it.
    explicit CoClicked(const TablesView& tables, const MemoryDelta* delta = nullptr)
        : tables_(&tables), base_(delta == nullptr ? nullptr : &delta->base()) {
        if (delta != nullptr) lock_ = delta->read();
    }

    struct Neighbors {
        std::vector<std::int32_t> items;  // in the tables' order
        std::vector<float> cosines;
    };
    // The cosine is sessions with both (`ses`) / sqrt((total of the item + 1) (total of the neighbor + 1)). An item
    // that the tables do not know has no neighbors.
    [[nodiscard]] Neighbors neighbors(std::int64_t item) const;

    // Of one pair; if it is not stored, by the latest sessions of both. 0 without a session.
    [[nodiscard]] double cosine(std::int64_t item, std::int64_t other) const;

    // Sessions with both: as stored, rounded to 8 bits above 256, or if the pair is not stored, of the latest.
    [[nodiscard]] double sessions(std::int64_t item, std::int64_t other) const;

    // The indices in `own` of its items that were clicked together with `item`, the closest first, at most kMaxReasons.
    [[nodiscard]] std::vector<std::size_t> closest(std::int32_t item, const std::vector<std::int32_t>& own) const;

   private:
    [[nodiscard]] RowView row(std::int64_t item) const {
        return base_ == nullptr ? row_of(*tables_, item) : base_->row(item);
    }
    // Sessions with both by the stored pairs, and by the latest sessions of both.
    [[nodiscard]] static double stored_sessions(const RowView& item_row, std::int64_t other);
    [[nodiscard]] double shared_sessions(std::int64_t item, std::int64_t other) const;
    [[nodiscard]] double cosine_norm(const RowView& first, const RowView& other) const;

    const TablesView* tables_;
    const BaseRows* base_;
    MemoryDelta::ReadLock lock_;
};

}  // namespace mtaw
