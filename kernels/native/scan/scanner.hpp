// Exact top-K of a catalog by one pass over its int8 codes: the answer of brute force, bit for bit, in about the time
// it takes to read one byte a dimension. bounds.hpp has the proof.
#pragma once

#include <cstdint>
#include <memory>

#include "isa.hpp"
#include "scan/layout.hpp"

namespace mtaw {

// A catalog and its codes, whole or nested (layout.hpp). The arrays are the caller's (a memory map will do) and outlive
// the scanner. They are fastest where they start on a cache line (64 bytes); any address is right.
//
// Whole codes suit a first pass over all of each code: one stream of 104 bytes an item at d = 100. With nested ones a
// search of few queries reads the half-wide blocks, about half the bytes, and the low halves of the items that are
// left; a batch joins chunks of them to whole codes.
struct ScanCatalog {
    const float* rows;           // float32[N, d], finite
    const std::uint8_t* blocks;  // the whole codes, or null: nested ones
    std::int64_t n_items;        // N, at most 2^31 - 1
    std::int64_t d;              // 1 .. kMaxScanDims
    ScanSummary summary;
    const std::uint8_t* half_blocks = nullptr;  // the two parts of nested codes
    const std::uint8_t* low_blocks = nullptr;

    bool nested() const { return blocks == nullptr; }
};

struct ScanRequest {
    const float* queries;  // float32[B, d], finite
    std::int64_t n_queries;
    std::int64_t k;  // results a query, at least 1; may pass N
    double scale;    // factor on the dot product, > 0 and finite
    // Items that may be found, for every query: bit i % 8 of byte i / 8, ceil(N / 8) bytes; null = all.
    const std::uint8_t* allowed = nullptr;
    // Items that query b must not find: ids excluded[excluded_offsets[b] .. excluded_offsets[b + 1]), ascending (equal
    // ones are fine). Meant for short lists: no bitmap is made of them. Null = none.
    const std::int32_t* excluded = nullptr;
    const std::int64_t* excluded_offsets = nullptr;  // int64[B + 1]
};

// The working memory of searches: one a thread, made once. It grows to what the largest search needed and stays so.
class ScanScratch {
   public:
    ScanScratch();
    ~ScanScratch();
    ScanScratch(ScanScratch&&) noexcept;
    ScanScratch& operator=(ScanScratch&&) noexcept;

    struct State;
    State& state() { return *state_; }

   private:
    std::unique_ptr<State> state_;
};

// Immutable after construction: any number of threads may search at once, each with a scratch of its own.
class Scanner {
   public:
    // `isa` picks the kernels; one without a path of its own uses the next lower one's.
    // Throws std::invalid_argument if the catalog's sizes make no sense, or a sample of the rows is not what the
    // codes say (the codes of another catalog).
    explicit Scanner(const ScanCatalog& catalog, Isa isa = active_isa());

    // Writes ids int32[B, k] and scores float32[B, k], best first, padded with -1 / -infinity. The score is
    // float32(scale * sum over i ascending of double(q_i) * double(e_i)); ties go to the lower id (rerank.hpp).
    // Throws std::invalid_argument on a query that is not finite, k < 1 or a scale that is not positive and finite.
    void search(const ScanRequest& request, std::int32_t* ids, float* scores, ScanScratch& scratch) const;

    const ScanCatalog& catalog() const { return catalog_; }

   private:
    ScanCatalog catalog_;
    Isa isa_;
};

}  // namespace mtaw
