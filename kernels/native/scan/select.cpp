#include "scan/select.hpp"

#include "score/score.hpp"

#include <algorithm>
#include <limits>

namespace mtaw {
namespace {

FiniteRange finite_range(const float* values, std::int64_t count) {
    FiniteRange range{0, kInfinity, -kInfinity};
    for (std::int64_t i = 0; i < count; ++i) {
        const bool finite = values[i] > -kInfinity;
        range.count += finite ? 1 : 0;
        range.smallest = finite ? std::min(range.smallest, values[i]) : range.smallest;
        range.largest = std::max(range.largest, values[i]);
    }
    return range;
}

std::int64_t count_at_least(const float* values, std::int64_t count, float smallest) {
    std::int32_t found = 0;
    for (std::int64_t i = 0; i < count; ++i) found += values[i] >= smallest ? 1 : 0;
    return found;
}

void drop_under_cut(ScanLane& lane) {
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < lane.count; ++i) {
        lane.upper[kept] = lane.upper[i];
        lane.lower[kept] = lane.lower[i];
        lane.ids[kept] = lane.ids[i];
        kept += lane.upper[kept] > lane.cut ? 1 : 0;
    }
    lane.count = kept;
}

}  // namespace

SelectKernels select_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return select_kernels_avx512();
#else
    (void)isa;
#endif
    return {finite_range, count_at_least, drop_under_cut};
}

}  // namespace mtaw
