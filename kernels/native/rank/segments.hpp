// The catalog as the engine searches it: a bundle's N items, M added ones behind them, minus the removed ones.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/query.hpp"
#include "scan/scanner.hpp"

namespace mtaw {

// What changed since the bundle. added: the scanner of the added items, whose item i has the id N + i, or null.
// present: the items that are not removed, bit i % 8 of byte i / 8, ceil((N + M) / 8) bytes, or null if all are.
struct CatalogUpdate {
    const Scanner* added = nullptr;
    const std::uint8_t* present = nullptr;
};

// One thread's working memory.
struct SegmentScratch {
    ScanScratch scan;
    std::vector<std::uint8_t> allowed_present;  // a call's allowed items that are present
    std::vector<std::uint8_t> added_allowed;
    std::vector<std::int32_t> added_excluded;
    std::vector<std::int64_t> added_offsets;
    std::vector<std::int32_t> added_ids;
    std::vector<float> added_scores;
    std::vector<Scored> merged;
};

// Immutable: any number of threads may search at once, each with a scratch of its own. The scanners outlive it.
class Segments {
   public:
    // Throws std::invalid_argument if the two scanners differ in dimensions.
    explicit Segments(const Scanner& base, const CatalogUpdate& update = {});
    // Of the items that another index finds; `search` throws. present: as CatalogUpdate.
    Segments(const ItemVectors& vectors, const std::uint8_t* present);

    // N + M.
    std::int64_t n_items() const { return n_items_; }
    std::int64_t d() const { return vectors_.d; }
    ItemVectors vectors(double scale) const;
    const std::uint8_t* present() const { return present_; }

    // The allowed items that are still present, as a bitmap like `allowed`; null = all. Stored in `scratch` if it has
    // to be made.
    const std::uint8_t* allowed_present(const std::uint8_t* allowed, SegmentScratch& scratch) const;

    // Scanner::search of all N + M items; request.allowed is what `allowed_present` gave.
    void search(const ScanRequest& request, std::int32_t* ids, float* scores, SegmentScratch& scratch) const;

   private:
    void search_added(const ScanRequest& request, SegmentScratch& scratch) const;
    // The added items' own bits, from the bit N of `allowed` on.
    void shift_bits(const std::uint8_t* allowed, std::vector<std::uint8_t>& bits) const;

    const Scanner* base_ = nullptr;
    const Scanner* added_ = nullptr;
    const std::uint8_t* present_;
    ItemVectors vectors_;
    std::int64_t n_base_;
    std::int64_t n_items_;
};

}  // namespace mtaw
