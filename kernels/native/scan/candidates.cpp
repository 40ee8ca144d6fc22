#include "scan/candidates.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler.hpp"
#include "score/score.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kFirstEntries = 1024;     // entries before the first threshold
constexpr std::int64_t kFirstHalfEntries = 256;  // of half-wide codes, where each costs a look at its low halves
constexpr std::int64_t kMinNewEntries = 64;      // new entries before the next
constexpr std::int64_t kMaxEntries = 4096;
constexpr std::int64_t kMaxFetched = 128;
constexpr std::int64_t kPairFloats = 32;      // two cache lines: hardware fetches the other one of a pair
constexpr double kFloorTolerance = 1.0 / 32;  // of the width of a bound: a floor this near to the best one is as good

}  // namespace

std::int64_t SearchPlan::max_entries() const { return std::max(kMaxEntries, 4 * k); }

std::int64_t SearchPlan::capacity() const {
    const std::int64_t padded = block_count(catalog->n_items) * kBlockItems;
    return std::min(max_entries(), padded) + kAppendSlack;
}

void Candidates::start(const SearchPlan& plan) {
    lane.cut = -kInfinity;
    lane.count = 0;
    lane.limit = std::max(plan.catalog->nested() ? kFirstHalfEntries : kFirstEntries, 4 * plan.k);
    checked = 0;
    floor = -kInfinity;
}

// The new entries ascend, and so do the excluded ids: each excluded id is looked for once.
void Candidates::drop_excluded() {
    const std::int32_t* const end = lane.ids + lane.count;
    const std::int32_t* entry = lane.ids + checked;
    while (entry != end && excluded != excluded_end && *excluded <= end[-1]) {
        entry = std::lower_bound(entry, end, *excluded);
        if (*entry == *excluded) {
            lane.upper[entry - lane.ids] = -kInfinity;
            lane.lower[entry - lane.ids] = -kInfinity;
        }
        ++excluded;
    }
}

// The largest floor is the k-th largest lower bound; a bisection comes near enough.
void Candidates::raise_floor(const SearchPlan& plan) {
    const FiniteRange range = plan.select.finite_range(lane.lower, lane.count);
    if (range.count < plan.k) return;
    float low = std::max(range.smallest, floor), high = range.largest;
    const auto tolerance = static_cast<float>(coded.width * kFloorTolerance);
    while (high - low > tolerance) {
        const float middle = low + (high - low) / 2;
        if (!(middle > low && middle < high)) break;
        const std::int64_t n_reached = plan.select.count_at_least(lane.lower, lane.count, middle);
        (n_reached >= plan.k ? low : high) = middle;
        if (n_reached == plan.k) break;
    }
    floor = low;
}

void Candidates::raise_cut() { lane.cut = std::max(lane.cut, rounded_down(static_cast<double>(floor) - coded.width)); }

// What an exact score is worth as a lower bound. `lift` is -infinity where nothing may be concluded.
float Candidates::lower_of(float score) const {
    if (coded.lift == -std::numeric_limits<double>::infinity() || !std::isfinite(coded.unit)) return -kInfinity;
    return rounded_down(static_cast<double>(score) * coded.unit + coded.lift);
}

void Candidates::tighten(const SearchPlan& plan) {
    drop_excluded();
    raise_floor(plan);
    raise_cut();
    plan.select.drop_under_cut(lane);
    // Entries that the bounds cannot tell apart, such as many equal items: their exact scores can.
    if (lane.count > plan.max_entries() / 2) keep_best(plan);
    raise_limit(plan);
}

void Candidates::refine(const SearchPlan& plan) {
    drop_excluded();
    plan.refine(*plan.blocks, checked, lane);
    tighten(plan);
}

void Candidates::raise_limit(const SearchPlan& plan) {
    checked = lane.count;
    const std::int64_t free_entries = std::max({kMinNewEntries, plan.k / 2, lane.count / 2});
    lane.limit = std::min(lane.count + free_entries, plan.max_entries());
}

void Candidates::add_unbounded(std::int32_t id) {
    lane.upper[lane.count] = kInfinity;
    lane.lower[lane.count] = -kInfinity;
    lane.ids[lane.count++] = id;
}

void Candidates::score(const SearchPlan& plan, std::int64_t begin, std::int64_t end) const {
    score_items(query, plan.catalog->rows, plan.catalog->d, plan.scale, plan.scored->data() + begin, end - begin,
                plan.isa);
}

void Candidates::keep_best(const SearchPlan& plan) {
    std::vector<Scored>& scored = *plan.scored;
    scored.clear();
    for (std::int64_t i = 0; i < lane.count; ++i) scored.push_back({0.0F, lane.ids[i]});
    score(plan, 0, lane.count);
    std::nth_element(scored.begin(), scored.begin() + static_cast<std::ptrdiff_t>(plan.k), scored.end(), Better{});
    lane.count = 0;
    for (std::int64_t i = 0; i < plan.k; ++i) {
        const Scored& item = scored[static_cast<std::size_t>(i)];
        add_unbounded(item.id);
        lane.lower[i] = lower_of(item.score);
    }
    raise_floor(plan);
    raise_cut();
}

void Candidates::fetch_rows(const SearchPlan& plan) const {
    const std::int64_t d = plan.catalog->d;
    std::int64_t budget = kMaxFetched;
    for (std::int64_t i = 0; i < lane.count && budget > 0; ++i) {
        // The exact scores will lift the floor by about half the width of a bound: what the middle of its bounds puts
        // under the floor now will then be dropped unscored.
        if (lane.upper[i] + lane.lower[i] < 2 * floor) continue;
        --budget;
        const float* row = plan.catalog->rows + lane.ids[i] * d;
        for (std::int64_t j = 0; j < d; j += kPairFloats) MTAW_PREFETCH_L2(row + j);
        MTAW_PREFETCH_L2(row + d - 1);
    }
}

void Candidates::finish(const SearchPlan& plan, std::int32_t* ids, float* scores) {
    tighten(plan);
    // Those that are in the top k by their lower bounds are scored first: their scores rule out many of the rest,
    // whose rows then need not be fetched.
    std::vector<Scored>& scored = *plan.scored;
    scored.resize(static_cast<std::size_t>(lane.count) + 1);  // the loops write one past what they keep
    const float first_floor = floor;
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < lane.count; ++i) {
        scored[static_cast<std::size_t>(first)] = {0.0F, lane.ids[i]};
        first += lane.lower[i] >= first_floor ? 1 : 0;
    }
    score(plan, 0, first);
    if (plan.k > 0 && first >= plan.k) {
        const auto last = scored.begin() + static_cast<std::ptrdiff_t>(plan.k - 1);
        std::nth_element(scored.begin(), last, scored.begin() + static_cast<std::ptrdiff_t>(first), Better{});
        floor = std::max(floor, lower_of(last->score));
        raise_cut();
    }
    std::int64_t count = first;
    for (std::int64_t i = 0; i < lane.count; ++i) {
        scored[static_cast<std::size_t>(count)] = {0.0F, lane.ids[i]};
        count += ((lane.lower[i] < first_floor) & (lane.upper[i] > lane.cut)) ? 1 : 0;
    }
    score(plan, first, count);
    place_best(scored.data(), count, std::min(plan.k, count), ids, scores);
}

}  // namespace mtaw
