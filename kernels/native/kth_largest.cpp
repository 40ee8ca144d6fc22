#include "kth_largest.hpp"

namespace mtaw {

std::int32_t kth_largest(const ColumnKernels& kernels, const std::int32_t* keys, std::int64_t count,
                         std::int64_t wanted, std::int64_t low, std::int64_t high) {
    while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        const std::int64_t found = kernels.count_at_least(keys, count, static_cast<std::int32_t>(middle));
        if (found >= wanted) {
            low = middle;
        } else {
            high = middle;
        }
        if (found == wanted) break;
    }
    return static_cast<std::int32_t>(low);
}

}  // namespace mtaw
