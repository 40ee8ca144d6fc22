// The largest of many keys, without sorting them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "column_kernels.hpp"

namespace mtaw {

constexpr std::int64_t kOverNumbers = 0x7F800001;  // above the bits of every float32 from 0 on, which have their order

// The largest value that at least `wanted` of the keys reach. All keys that are at least `low` are under `high`, and
// there are at least `wanted` >= 1 of these.
std::int32_t kth_largest(const ColumnKernels& kernels, const std::int32_t* keys, std::int64_t count,
                         std::int64_t wanted, std::int64_t low, std::int64_t high);

// Where the best of many items end.
struct KeyCut {
    std::int32_t lowest;                                           // the lowest key of theirs, or one below it
    std::int32_t last = std::numeric_limits<std::int32_t>::max();  // the last of their items with that key

    bool takes(std::int32_t key, std::int32_t item) const {
        return ((key > lowest ? 1 : 0) | ((key == lowest ? 1 : 0) & (item <= last ? 1 : 0))) != 0;
    }
};

// The cut that takes the best `wanted` of the items by their keys, ties by the lower item. item_of(i): the item of the
// key i. At least `wanted` >= 1 keys are `low` or more, and these are under kOverNumbers. ties: room for `count`.
template <typename ItemOf>
KeyCut cut_of(const ColumnKernels& kernels, const std::int32_t* keys, std::int64_t count, std::int64_t wanted,
              std::int32_t low, const ItemOf& item_of, std::int32_t* ties) {
    KeyCut cut{kth_largest(kernels, keys, count, wanted, low, kOverNumbers)};
    // All that reach it, if it lies between two keys or the lowest of them has no ties too many.
    if (kernels.count_at_least(keys, count, cut.lowest) <= wanted) return cut;
    const std::int64_t wanted_ties = wanted - kernels.count_at_least(keys, count, cut.lowest + 1);
    std::int64_t n_ties = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        ties[n_ties] = static_cast<std::int32_t>(i);
        n_ties += keys[i] == cut.lowest ? 1 : 0;
    }
    for (std::int64_t i = 0; i < n_ties; ++i) ties[i] = item_of(ties[i]);
    std::nth_element(ties, ties + (wanted_ties - 1), ties + n_ties);
    cut.last = ties[wanted_ties - 1];
    return cut;
}

}  // namespace mtaw
