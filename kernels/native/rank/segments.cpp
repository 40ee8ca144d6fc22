#include "rank/segments.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

// Merges the k best of a row of the base and a row of the added items, both best first, into the row of the base. With
// equal scores the base comes first, since its ids are lower.
void merge_rows(std::int64_t k, std::int32_t* ids, float* scores, const std::int32_t* added_ids,
                const float* added_scores, std::int64_t added_k, std::int64_t n_base, std::vector<Scored>& merged) {
    merged.clear();
    std::int64_t n_base_taken = 0, n_added_taken = 0;
    while (n_base_taken + n_added_taken < k) {
        const bool has_base = ids[n_base_taken] >= 0,
                   has_added = n_added_taken < added_k && added_ids[n_added_taken] >= 0;
        if (!has_base && !has_added) break;
        if (has_base && (!has_added || scores[n_base_taken] >= added_scores[n_added_taken])) {
            merged.push_back({scores[n_base_taken], ids[n_base_taken]});
            ++n_base_taken;
        } else {
            merged.push_back(
                {added_scores[n_added_taken], static_cast<std::int32_t>(added_ids[n_added_taken] + n_base)});
            ++n_added_taken;
        }
    }
    for (std::size_t i = 0; i < merged.size(); ++i) {
        ids[i] = merged[i].id;
        scores[i] = merged[i].score;
    }
}

}  // namespace

Segments::Segments(const Scanner& base, const CatalogUpdate& update)
    : Segments({base.catalog().rows, base.catalog().n_items,
                update.added == nullptr ? nullptr : update.added->catalog().rows, base.catalog().d, 1.0,
                update.added == nullptr ? 0 : update.added->catalog().n_items},
               update.present) {
    base_ = &base;
    added_ = update.added;
    if (added_ != nullptr && added_->catalog().d != vectors_.d) {
        throw std::invalid_argument("the added items have " + std::to_string(added_->catalog().d) +
                                    " dimensions, the catalog " + std::to_string(vectors_.d) +
                                    "; give them the catalog's");
    }
}

Segments::Segments(const ItemVectors& vectors, const std::uint8_t* present)
    : present_(present), vectors_(vectors), n_base_(vectors.n), n_items_(vectors.n + vectors.n_added) {
    if (n_items_ > std::numeric_limits<std::int32_t>::max()) {
        throw std::invalid_argument("a catalog has at most 2^31 items, not " + std::to_string(n_items_));
    }
}

ItemVectors Segments::vectors(double scale) const {
    ItemVectors scaled = vectors_;
    scaled.scale = scale;
    return scaled;
}

const std::uint8_t* Segments::allowed_present(const std::uint8_t* allowed, SegmentScratch& scratch) const {
    if (allowed == nullptr || present_ == nullptr) return allowed == nullptr ? present_ : allowed;
    const auto size = static_cast<std::size_t>((n_items_ + 7) / 8);
    scratch.allowed_present.resize(size);
    std::uint8_t* const bits = scratch.allowed_present.data();
    for (std::size_t i = 0; i < size; ++i) bits[i] = static_cast<std::uint8_t>(allowed[i] & present_[i]);
    return bits;
}

void Segments::search(const ScanRequest& request, std::int32_t* ids, float* scores, SegmentScratch& scratch) const {
    if (base_ == nullptr) throw std::invalid_argument("this engine has no index; give the call one");
    // The base finds only its own items: bits and excluded ids past its last item are ignored.
    base_->search(request, ids, scores, scratch.scan);
    if (n_items_ == n_base_) return;
    search_added(request, scratch);
    const std::int64_t added_k = std::min(request.k, n_items_ - n_base_);
    for (std::int64_t q = 0; q < request.n_queries; ++q) {
        merge_rows(request.k, ids + q * request.k, scores + q * request.k, scratch.added_ids.data() + q * added_k,
                   scratch.added_scores.data() + q * added_k, added_k, n_base_, scratch.merged);
    }
}

void Segments::search_added(const ScanRequest& request, SegmentScratch& scratch) const {
    ScanRequest added_request = request;
    added_request.k = std::min(request.k, n_items_ - n_base_);
    if (request.allowed != nullptr) {
        shift_bits(request.allowed, scratch.added_allowed);
        added_request.allowed = scratch.added_allowed.data();
    }
    if (request.excluded != nullptr) {
        std::vector<std::int32_t>& excluded = scratch.added_excluded;
        excluded.clear();
        scratch.added_offsets.assign(1, 0);
        for (std::int64_t q = 0; q < request.n_queries; ++q) {
            const std::int32_t* const end = request.excluded + request.excluded_offsets[q + 1];
            const std::int32_t* id = std::lower_bound(request.excluded + request.excluded_offsets[q], end, n_base_);
            for (; id != end; ++id) excluded.push_back(static_cast<std::int32_t>(*id - n_base_));
            scratch.added_offsets.push_back(static_cast<std::int64_t>(excluded.size()));
        }
        added_request.excluded = excluded.data();
        added_request.excluded_offsets = scratch.added_offsets.data();
    }
    scratch.added_ids.resize(static_cast<std::size_t>(added_request.n_queries * added_request.k));
    scratch.added_scores.resize(scratch.added_ids.size());
    added_->search(added_request, scratch.added_ids.data(), scratch.added_scores.data(), scratch.scan);
}

void Segments::shift_bits(const std::uint8_t* allowed, std::vector<std::uint8_t>& bits) const {
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
