#include "scan/candidates.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace mtaw {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kFirstLook = 512;  // entries before the first threshold; 2 bisections of 512 take half a us
constexpr std::int64_t kMoreRoom = 96;    // new entries before the next
constexpr int kHalvings = 12;             // of the range of lower bounds: far under the width of a bound

std::int64_t count_at_least(const float* values, std::int64_t count, float least) {
    std::int32_t found = 0;
    for (std::int64_t i = 0; i < count; ++i) found += values[i] >= least ? 1 : 0;
    return found;
}

}  // namespace

std::int64_t SearchPlan::settle_at() const { return std::max<std::int64_t>(4096, 4 * k); }

std::int64_t SearchPlan::capacity() const {
    const std::int64_t padded = block_count(catalog->n_items) * kBlockItems;
    return std::min(settle_at(), padded) + kAppendSlack;
}

void Candidates::start(const SearchPlan& plan) {
    lane.cut = -kInfinity;
    lane.count = 0;
    lane.limit = std::max(kFirstLook, 4 * plan.k);
    checked = 0;
    floor = -kInfinity;
}

// The new entries ascend, and so do the excluded ids: each excluded id is looked for once.
void Candidates::drop_excluded() {
    const std::int32_t* const end = lane.ids + lane.count;
    const std::int32_t* place = lane.ids + checked;
    while (place != end && excluded != excluded_end && *excluded <= end[-1]) {
        place = std::lower_bound(place, end, *excluded);
        if (*place == *excluded) {
            lane.upper[place - lane.ids] = -kInfinity;
            lane.lower[place - lane.ids] = -kInfinity;
        }
        ++excluded;
    }
}

// The largest floor is the k-th largest lower bound; a bisection comes near enough.
void Candidates::raise_floor(std::int64_t k) {
    float low = kInfinity, high = -kInfinity;
    std::int64_t finite = 0;
    for (std::int64_t i = 0; i < lane.count; ++i) {
        const float value = lane.lower[i];
        if (value == -kInfinity) continue;
        low = std::min(low, value);
        high = std::max(high, value);
        ++finite;
    }
    if (finite < k) return;
    low = std::max(low, floor);
    for (int halving = 0; halving < kHalvings; ++halving) {
        const float middle = low + (high - low) / 2;
        if (!(middle > low)) break;
        const std::int64_t reached = count_at_least(lane.lower, lane.count, middle);
        (reached >= k ? low : high) = middle;
        if (reached == k) break;
    }
    floor = low;
}

void Candidates::compress() {
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < lane.count; ++i) {
        lane.upper[kept] = lane.upper[i];
        lane.lower[kept] = lane.lower[i];
        lane.ids[kept] = lane.ids[i];
        kept += lane.upper[kept] > lane.cut ? 1 : 0;
    }
    lane.count = kept;
}

void Candidates::tighten(const SearchPlan& plan, std::vector<Scored>& scored) {
    drop_excluded();
    raise_floor(plan.k);
    lane.cut = std::max(lane.cut, rounded_down(static_cast<double>(floor) - coded.width));
    compress();
    if (lane.count > plan.settle_at() / 2) settle(plan, scored);
    checked = lane.count;
    const std::int64_t room = std::max({kMoreRoom, plan.k / 2, lane.count / 2});
    lane.limit = std::min(lane.count + room, plan.settle_at());
}

void Candidates::add_unbounded(std::int32_t id) {
    lane.upper[lane.count] = kInfinity;
    lane.lower[lane.count] = -kInfinity;
    lane.ids[lane.count++] = id;
}

void Candidates::score(const SearchPlan& plan, std::vector<Scored>& scored) const {
    scored.clear();
    for (std::int64_t i = 0; i < lane.count; ++i) {
        // Codes that are not of this catalog could name a place past its end.
        if (lane.ids[i] < plan.catalog->n_items) scored.push_back({0.0F, lane.ids[i]});
    }
    score_items(query, plan.catalog->rows, plan.catalog->d, plan.scale, scored.data(),
                static_cast<std::int64_t>(scored.size()), plan.isa);
}

// Entries that the bounds cannot tell apart, such as many equal items: their exact scores can.
void Candidates::settle(const SearchPlan& plan, std::vector<Scored>& scored) {
    score(plan, scored);
    const auto kept = std::min(plan.k, static_cast<std::int64_t>(scored.size()));
    std::nth_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(kept), scored.end(), better);
    lane.count = 0;
    for (std::int64_t i = 0; i < kept; ++i) {
        const Scored& item = scored[static_cast<std::size_t>(i)];
        add_unbounded(item.id);
        // `lift` is -infinity where no bound holds; the score then may be infinite itself.
        const double exact = static_cast<double>(item.score) * coded.unit;
        const float lower = coded.lift == -std::numeric_limits<double>::infinity() ? -kInfinity
                                                                                  : rounded_down(exact + coded.lift);
        lane.lower[lane.count - 1] = lower;
    }
    raise_floor(plan.k);
    lane.cut = std::max(lane.cut, rounded_down(static_cast<double>(floor) - coded.width));
}

void Candidates::finish(const SearchPlan& plan, std::vector<Scored>& scored, std::int32_t* ids, float* scores) {
    tighten(plan, scored);
    score(plan, scored);
    const auto kept = std::min(plan.k, static_cast<std::int64_t>(scored.size()));
    std::partial_sort(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(kept), scored.end(), better);
    for (std::int64_t place = 0; place < kept; ++place) {
        ids[place] = scored[static_cast<std::size_t>(place)].id;
        scores[place] = scored[static_cast<std::size_t>(place)].score;
    }
}

}  // namespace mtaw
