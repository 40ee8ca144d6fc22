#include "rank/item_lists.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "bundle/bits.hpp"
#include "memory/co_clicked.hpp"
#include "score/score.hpp"
#include "trends/trends.hpp"

namespace mtaw {
namespace {

// Whether the conditions and the catalog leave an item.
class Eligible {
   public:
    Eligible(const Engine& engine, const Conditions& conditions) : engine_(engine), conditions_(conditions) {}

    bool operator()(std::int32_t item) const {
        const std::uint8_t* const present = engine_.segments().present();
        if (item >= engine_.n_items() || (present != nullptr && !has_bit(present, item))) return false;
        if (conditions_.allowed != nullptr && !has_bit(conditions_.allowed, item)) return false;
        return !std::binary_search(conditions_.excluded, conditions_.excluded + conditions_.n_excluded, item);
    }

   private:
    const Engine& engine_;
    const Conditions& conditions_;
};

void pad(std::int64_t from, std::int64_t k, std::int32_t* ids, float* scores) {
    std::fill(ids + from, ids + k, -1);
    std::fill(scores + from, scores + k, -kInfinity);
}

}  // namespace

void rank_popular(const Engine& engine, const ItemClicks& clicks, std::int64_t k, const Conditions& conditions,
                  std::int32_t* ids, float* scores) {
    const Eligible eligible(engine, conditions);
    const Trends* const trends = engine.memory_parts().trends;
    std::vector<std::int32_t> rising;
    std::int64_t count = 0;
    if (trends != nullptr) {
        rising.resize(static_cast<std::size_t>(kTrendMaxRising));
        std::vector<float> rates(rising.size());
        std::int64_t n_rising;
        {
            const auto locked = trends->reading();
            n_rising = trends->rising(conditions.now, kTrendMaxRising, rising.data(), rates.data());
        }
        rising.resize(static_cast<std::size_t>(n_rising));
        for (std::size_t i = 0; i < rising.size() && count < k; ++i) {
            if (!eligible(rising[i])) continue;
            ids[count] = rising[i];
            scores[count++] = rates[i];
        }
    }
    const double lowest = count > 0 ? std::min(0.0, static_cast<double>(scores[count - 1])) : 0.0;
    const auto below = static_cast<float>(lowest - 1);
    std::sort(rising.begin(), rising.end());
    const std::int64_t first = count;
    for (std::int64_t i = 0; i < engine.n_items() && count < k; ++i) {
        const std::int32_t item = clicks.order[i];
        if (item < 0 || item >= engine.n_items()) {
            throw std::out_of_range("the order of the items has the id " + std::to_string(item));
        }
        if (!eligible(item) || std::binary_search(rising.begin(), rising.end(), item)) continue;
        ids[count] = item;
        scores[count] =
            trends != nullptr ? below - static_cast<float>(count - first) : static_cast<float>(clicks.counts[item]);
        ++count;
    }
    pad(count, k, ids, scores);
}

void rank_by_vector(const Engine& engine, std::int32_t item, std::int64_t k, const Conditions& conditions,
                    std::int32_t* ids, float* scores, EngineScratch& scratch) {
    const ItemVectors vectors = engine.segments().vectors(1.0);
    ScanRequest request{vectors.row(item), 1, k, 1.0};
    request.allowed = engine.segments().allowed_present(conditions.allowed, scratch.segments);
    const std::int64_t offsets[] = {0, conditions.n_excluded};
    if (conditions.n_excluded > 0) {
        request.excluded = conditions.excluded;
        request.excluded_offsets = offsets;
    }
    if (conditions.other != nullptr && conditions.other->search) {
        conditions.other->search(request, ids, scores);
    } else {
        engine.segments().search(request, ids, scores, scratch.segments);
    }
}

void rank_by_sessions(const Engine& engine, std::int32_t item, std::int64_t k, const Conditions& conditions,
                      std::int32_t* ids, float* scores) {
    const SessionMemory* const memory = engine.memory_parts().memory;
    if (memory == nullptr) throw std::invalid_argument("there is no session memory; rank by the vector");
    const Eligible eligible(engine, conditions);
    const CoClicked::Neighbors all = CoClicked(memory->tables(), memory->delta()).neighbors(item);
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
