#include "engine/segments.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

// The row of `found` and one of the side's, both best first, into the k best of both. Equal scores: found's first,
// whose ids are the lower ones.
void merge(std::int64_t k, std::int32_t* ids, float* scores, const std::int32_t* side_ids, const float* side_scores,
           std::int64_t side_k, std::int64_t n_base, std::vector<Scored>& merged) {
    merged.clear();
    std::int64_t base = 0, side = 0;
    while (base + side < k) {
        const bool has_base = ids[base] >= 0, has_side = side < side_k && side_ids[side] >= 0;
        if (!has_base && !has_side) break;
        if (has_base && (!has_side || scores[base] >= side_scores[side])) {
            merged.push_back({scores[base], ids[base]});
            ++base;
        } else {
            merged.push_back({side_scores[side], static_cast<std::int32_t>(side_ids[side] + n_base)});
            ++side;
        }
    }
    for (std::size_t place = 0; place < merged.size(); ++place) {
        ids[place] = merged[place].id;
        scores[place] = merged[place].score;
    }
}

}  // namespace

Segments::Segments(const Scanner& base, const CatalogUpdate& update)
    : base_(&base), side_(update.side), present_(update.present), n_base_(base.catalog().n_items), n_items_(n_base_) {
    if (side_ == nullptr) return;
    const ScanCatalog& added = side_->catalog();
    if (added.d != base.catalog().d) {
        throw std::invalid_argument("the added items have " + std::to_string(added.d) + " dimensions, the catalog " +
                                    std::to_string(base.catalog().d) + "; give them the catalog's");
    }
    n_items_ += added.n_items;
    if (n_items_ > std::numeric_limits<std::int32_t>::max()) {
        throw std::invalid_argument("a catalog has at most 2^31 items, not " + std::to_string(n_items_));
    }
}

ItemVectors Segments::vectors(double scale) const {
    const ScanCatalog& base = base_->catalog();
    const float* const added = side_ == nullptr ? nullptr : side_->catalog().rows;
    return {base.rows, n_base_, added, base.d, scale, n_items_ - n_base_};
}

const std::uint8_t* Segments::left(const std::uint8_t* allowed, SegmentScratch& scratch) const {
    if (allowed == nullptr || present_ == nullptr) return allowed == nullptr ? present_ : allowed;
    const auto size = static_cast<std::size_t>((n_items_ + 7) / 8);
    scratch.left.resize(size);
    std::uint8_t* const bits = scratch.left.data();
    for (std::size_t i = 0; i < size; ++i) bits[i] = static_cast<std::uint8_t>(allowed[i] & present_[i]);
    return bits;
}

void Segments::search(const ScanRequest& request, std::int32_t* ids, float* scores, SegmentScratch& scratch) const {
    // The base finds only its own items: bits and excluded ids past its last item are ignored.
    base_->search(request, ids, scores, scratch.scan);
    if (n_items_ == n_base_) return;
    search_side(request, scratch);
    const std::int64_t side_k = std::min(request.k, n_items_ - n_base_);
    for (std::int64_t q = 0; q < request.n_queries; ++q) {
        merge(request.k, ids + q * request.k, scores + q * request.k, scratch.side_ids.data() + q * side_k,
              scratch.side_scores.data() + q * side_k, side_k, n_base_, scratch.merged);
    }
}

void Segments::search_side(const ScanRequest& request, SegmentScratch& scratch) const {
    ScanRequest own = request;
    own.k = std::min(request.k, n_items_ - n_base_);
    if (request.allowed != nullptr) {
        cut_bits(request.allowed, scratch.side_allowed);
        own.allowed = scratch.side_allowed.data();
    }
    if (request.excluded != nullptr) {
        std::vector<std::int32_t>& excluded = scratch.side_excluded;
        excluded.clear();
        scratch.side_offsets.assign(1, 0);
        for (std::int64_t q = 0; q < request.n_queries; ++q) {
            const std::int32_t* const end = request.excluded + request.excluded_offsets[q + 1];
            const std::int32_t* id = std::lower_bound(request.excluded + request.excluded_offsets[q], end, n_base_);
            for (; id != end; ++id) excluded.push_back(static_cast<std::int32_t>(*id - n_base_));
            scratch.side_offsets.push_back(static_cast<std::int64_t>(excluded.size()));
        }
        own.excluded = excluded.data();
        own.excluded_offsets = scratch.side_offsets.data();
    }
    scratch.side_ids.resize(static_cast<std::size_t>(own.n_queries * own.k));
    scratch.side_scores.resize(scratch.side_ids.size());
    side_->search(own, scratch.side_ids.data(), scratch.side_scores.data(), scratch.scan);
}

void Segments::cut_bits(const std::uint8_t* allowed, std::vector<std::uint8_t>& bits) const {
    const std::int64_t first = n_base_ / 8, size = (n_items_ - n_base_ + 7) / 8, last = (n_items_ + 7) / 8 - 1;
    const int shift = static_cast<int>(n_base_ % 8);
    bits.resize(static_cast<std::size_t>(size));
    for (std::int64_t i = 0; i < size; ++i) {
        const unsigned low = allowed[first + i];
        const unsigned high = first + i < last ? allowed[first + i + 1] : 0U;
        bits[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>((low | high << 8) >> shift);
    }
}

}  // namespace mtaw
