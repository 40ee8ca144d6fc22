#include <algorithm>

#include "memory/query.hpp"

namespace mtaw {
namespace {

std::unique_ptr<std::int32_t[]> integers(std::int64_t size) {
    return std::unique_ptr<std::int32_t[]>(new std::int32_t[static_cast<std::size_t>(size + kPadding)]);
}

}  // namespace

void MemoryScratch::fit(const MemoryBounds& wanted) {
    const auto size = [](std::int64_t count) { return static_cast<std::size_t>(count); };
    // The bounds are raised last: where memory runs out on the way, the next call tries again.
    MemoryBounds bounds = bounds_;
    if (wanted.catalog > bounds.catalog) slot_plus_one_.resize(size(bounds.catalog = wanted.catalog), 0);
    if (wanted.sessions > bounds.sessions) weights_.resize(size(bounds.sessions = wanted.sessions), 0.0F);
    if (wanted.slots > bounds.slots) {
        bounds.slots = wanted.slots;
        items_ = integers(bounds.slots);
        sums_ = ZeroFloats(bounds.slots * kSumLanes);
        signals_ = ZeroFloats(bounds.slots * kSignalLanes);
        inverse_roots_ = AlignedFloats(bounds.slots + kPadding);
        keys_ = integers(bounds.slots);
        candidates_.reserve(size(bounds.slots));
    }
    if (touched_ == nullptr || wanted.touched > bounds.touched) {
        bounds.touched = wanted.touched;
        touched_ = integers(3 * (bounds.touched + kPadding));
    }
    if (wanted.longest > bounds.longest) slots_ = integers(bounds.longest = wanted.longest);
    if (wanted.similar > bounds.similar) {
        bounds.similar = wanted.similar;
        similar_ = integers(bounds.similar);
        similar_recency_ = AlignedFloats(bounds.similar + kPadding);
        similar_weights_ = AlignedFloats(bounds.similar + kPadding);
    }
    if (wanted.candidates > bounds.candidates) {
        bounds.candidates = wanted.candidates;
        scored_.reserve(size(bounds.candidates));
        score_keys_ = integers(bounds.candidates);
        ties_ = integers(bounds.candidates);
    }
    if (columns_.size() == 0) columns_ = AlignedFloats((kMaxSide + kTrendColumns + kColumns + 2 * kMaxTypes) * kTile);
    missing_.reserve(size(kTile));
    bounds_ = bounds;
}

}  // namespace mtaw
