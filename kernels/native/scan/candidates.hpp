// The items of one query that are still in the running, and the threshold that they set.
#pragma once

#include <cstdint>
#include <vector>

#include "isa.hpp"
#include "scan/bounds.hpp"
#include "scan/kernel.hpp"
#include "scan/scanner.hpp"
#include "scan/select.hpp"
#include "score/score.hpp"

namespace mtaw {

// What the queries of one search share.
struct SearchPlan {
    const ScanCatalog* catalog;
    std::int64_t k;  // at most N
    double scale;
    Isa isa;
    SelectKernels select;
    std::vector<Scored>* scored;  // working memory
    const ScanBlocks* blocks;
    decltype(ScanKernels::refine) refine;

    // A buffer half this full whose bounds do not thin it out is scored exactly and cut down to its best k.
    std::int64_t max_entries() const;
    // The length of a lane's arrays.
    std::int64_t capacity() const;
};

struct Candidates {
    ScanLane lane;
    CodedQuery coded;
    const float* query;
    const std::int32_t* excluded;  // the excluded ids not yet met, ascending
    const std::int32_t* excluded_end;
    std::int64_t checked;  // the first entries of the lane, free of excluded ids
    float floor;           // L of bounds.hpp, as far as it is known: -infinity until k items are there

    // Empty, with the lane's arrays and codes set by the caller.
    void start(const SearchPlan& plan);
    // Raises the lane's cut to what its entries allow, drops the entries under it, and raises the limit for more.
    void tighten(const SearchPlan& plan);
    // The same after the new entries' bounds, which come from half-wide codes, are made those of the whole codes.
    void refine(const SearchPlan& plan);
    // Adds an item whose bounds are not known; the lane must have room for it.
    void add_unbounded(std::int32_t id);
    // Prefetches the rows of the entries, which `finish` reads.
    void fetch_rows(const SearchPlan& plan) const;
    // Writes the k best in order; what is missing to k stays as it is.
    void finish(const SearchPlan& plan, std::int32_t* ids, float* scores);

   private:
    void drop_excluded();
    void raise_floor(const SearchPlan& plan);
    void raise_cut();
    float lower_of(float score) const;
    void score(const SearchPlan& plan, std::int64_t begin, std::int64_t end) const;
    void keep_best(const SearchPlan& plan);
    void raise_limit(const SearchPlan& plan);
};

}  // namespace mtaw
