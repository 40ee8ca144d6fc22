// Rankings without the encoder: the most clicked items, rising items, and items similar to one. As
// mtaw_fast/ranking/item_lists.py.
#include <algorithm>
#include <limits>

#include "bundle/bits.hpp"
#include "memory/co_clicked.hpp"
#include "recommender.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

// Whether a call's conditions and the bundle leave an item.
class Eligible {
   public:
    Eligible(const Bundle& bundle, const Request& request, const std::vector<std::uint8_t>* allowed)
        : bundle_(bundle), request_(request), allowed_(allowed) {}

    bool operator()(std::int32_t item) const {
        if (bundle_.is_unavailable(item)) return false;
        if (allowed_ != nullptr && !has_bit(allowed_->data(), item)) return false;
        return !std::binary_search(request_.excluded.begin(), request_.excluded.end(), item);
    }

   private:
    const Bundle& bundle_;
    const Request& request_;
    const std::vector<std::uint8_t>* allowed_;
};

void pad(std::int64_t from, std::int64_t k, std::int32_t* ids, float* scores) {
    std::fill(ids + from, ids + k, -1);
    std::fill(scores + from, scores + k, -std::numeric_limits<float>::infinity());
}

}  // namespace

void Recommender::rank_popular(std::int64_t k, const Request& request, const std::vector<std::uint8_t>* allowed,
                               std::int32_t* ids, float* scores) const {
    const Eligible eligible(*bundle_, request, allowed);
    std::vector<std::int32_t> rising;
    std::int64_t count = 0;
    if (const Trends* const trends = bundle_->trends()) {
        rising.resize(static_cast<std::size_t>(kTrendMaxRising));
        std::vector<float> rates(rising.size());
        std::int64_t found;
        {
            const auto locked = trends->reading();
            found = trends->rising(request.at, kTrendMaxRising, rising.data(), rates.data());
        }
        rising.resize(static_cast<std::size_t>(found));
        for (std::size_t i = 0; i < rising.size() && count < k; ++i) {
            if (!eligible(rising[i])) continue;
            ids[count] = rising[i];
            scores[count++] = rates[i];
        }
    }
    // The others go on below, by one a rank where there are trends: their scores only express the order.
    const double lowest = count > 0 ? std::min(0.0, static_cast<double>(scores[count - 1])) : 0.0;
    const auto below = static_cast<float>(lowest - 1);
    std::sort(rising.begin(), rising.end());
    const std::int64_t first = count;
    for (std::int64_t i = 0; i < bundle_->size() && count < k; ++i) {
        const std::int32_t item = bundle_->most_clicked()[i];
        if (!eligible(item) || std::binary_search(rising.begin(), rising.end(), item)) continue;
        ids[count] = item;
        scores[count] = bundle_->trends() != nullptr ? below - static_cast<float>(count - first)
                                                     : static_cast<float>(bundle_->popularity()[item]);
        ++count;
    }
    pad(count, k, ids, scores);
}

void Recommender::rank_by_vectors(std::int32_t item, std::int64_t k, const Request& request,
                                  const std::vector<std::uint8_t>* allowed, std::int32_t* ids, float* scores) const {
    const ScanCatalog& catalog = bundle_->scanner().catalog();
    std::vector<std::uint8_t> present_items;
    const std::uint8_t* bits = allowed == nullptr ? bundle_->present() : allowed->data();
    if (allowed != nullptr && bundle_->present() != nullptr) {
        present_items = *allowed;
        for (std::size_t i = 0; i < present_items.size(); ++i) present_items[i] &= bundle_->present()[i];
        bits = present_items.data();
    }
    const std::int64_t offsets[] = {0, static_cast<std::int64_t>(request.excluded.size())};
    ScanRequest search{catalog.rows + item * catalog.d, 1, k, 1.0};
    search.allowed = bits;
    search.excluded = request.excluded.data();
    search.excluded_offsets = offsets;
    const Borrowed scratch(*this);
    bundle_->scanner().search(search, ids, scores, (*scratch).segments.scan);
}

void Recommender::rank_by_sessions(std::int32_t item, std::int64_t k, const Request& request,
                                   const std::vector<std::uint8_t>* allowed, std::int32_t* ids, float* scores) const {
    const Eligible eligible(*bundle_, request, allowed);
    const CoClicked::Neighbors all = CoClicked(bundle_->tables()).neighbors(item);
    std::vector<Scored> found;
    for (std::size_t p = 0; p < all.items.size(); ++p) {
        if (all.cosines[p] > 0 && eligible(all.items[p])) found.push_back({all.cosines[p], all.items[p]});
    }
    std::sort(found.begin(), found.end(), Better{});
    const std::int64_t count = std::min(k, static_cast<std::int64_t>(found.size()));
    for (std::int64_t i = 0; i < count; ++i) {
        ids[i] = found[static_cast<std::size_t>(i)].id;
        scores[i] = found[static_cast<std::size_t>(i)].score;
    }
    pad(count, k, ids, scores);
}

}  // namespace mtaw
