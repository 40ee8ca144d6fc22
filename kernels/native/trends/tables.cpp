#include "trends/tables.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "trends/build.hpp"

namespace mtaw {

namespace {

constexpr std::uint16_t kInfinityBits = 0x7F80;  // as bfloat16; NaNs and negative numbers have larger bits

[[noreturn]] void refuse(const char* array, std::int64_t index, const std::string& reason) {
    throw std::invalid_argument(std::string(array) + "[" + std::to_string(index) + "] " + reason);
}

void check_rows(const TrendsView& tables, std::int64_t longest) {
    if (tables.row_offsets[0] != 0) refuse("row_offsets", 0, "is " + std::to_string(tables.row_offsets[0]) + ", not 0");
    for (std::int64_t i = 0; i < tables.n_items; ++i) {
        const std::int64_t length = tables.row_offsets[i + 1] - tables.row_offsets[i];
        if (length < 0) refuse("row_offsets", i + 1, "is less than the one before");
        if (longest != 0 && length > longest) {
            refuse("row_offsets", i + 1, "ends a run longer than " + std::to_string(longest));
        }
    }
    if (tables.row_offsets[tables.n_items] != tables.n_pairs) {
        refuse("row_offsets", tables.n_items,
               "is " + std::to_string(tables.row_offsets[tables.n_items]) + ", not " + std::to_string(tables.n_pairs));
    }
    for (std::int64_t p = 0; p < tables.n_pairs; ++p) {
        if (tables.neighbors[p] < 0 || tables.neighbors[p] >= tables.n_items) {
            refuse("neighbors", p,
                   "is " + std::to_string(tables.neighbors[p]) + ", outside 0.." + std::to_string(tables.n_items - 1));
        }
    }
}

void check_context(const ContextView& context, std::int64_t n_items) {
    if (context.offsets[0] != 0) refuse("context_offsets", 0, "is not 0");
    for (std::int64_t i = 0; i < n_items; ++i) {
        if (context.offsets[i + 1] < context.offsets[i])
            refuse("context_offsets", i + 1, "is less than the one before");
    }
    if (context.offsets[n_items] != context.n_sums) refuse("context_offsets", n_items, "is not the number of sums");
    for (std::int64_t i = 0; i < n_items; ++i) {
        for (std::int64_t p = context.offsets[i]; p < context.offsets[i + 1]; ++p) {
            const std::int64_t value = context.values[p];
            if (value >= context.shape.n_values() || (p > context.offsets[i] && value <= context.values[p - 1])) {
                refuse("context_values", p, "is no value, or out of order");
            }
        }
    }
}

template <typename T>
void check_sums(const char* name, const T* values, std::int64_t rows, std::int64_t columns) {
    for (std::int64_t i = 0; i < rows * columns; ++i) {
        if (!(values[i] >= 0 && std::isfinite(values[i])))
            refuse(name, i / columns, "has a value that is negative or not finite");
    }
}

}  // namespace

void check_trends(const TrendsView& tables, const TrendSettings& settings) {
    check_trend_settings(settings);
    check_rows(tables, settings.max_neighbors);
    for (std::int64_t i = 0; i < tables.n_pairs * kPairSums; ++i) {
        if (tables.values[i] >= kInfinityBits)
            refuse("values", i / kPairSums, "has a value that is negative or not finite");
    }
    check_sums("totals", tables.totals, tables.n_items, kPairSums);
    check_sums("counts", tables.counts, tables.n_items, kItemSums);
    check_sums("sums", tables.sums, 1, kItemSums);
    if (tables.context.shape.n_columns > 0) {
        check_context(tables.context, tables.n_items);
        check_sums("context_sums", tables.context.sums, tables.context.n_sums, 1);
        check_sums("context_totals", tables.context.totals, tables.context.shape.n_values(), 1);
    }
    const std::int64_t newest = tables.clock[kItemLanes];
    if (newest < 0 || newest > kMaxTime) refuse("clock", kItemLanes, "is not a valid time");
    for (int lane = 0; lane < kItemLanes; ++lane) {
        if (tables.clock[lane] != floor_div(newest, settings.half_lives.ms[lane])) {
            refuse("clock", lane, "is not the newest click's");
        }
    }
    for (std::int64_t i = 0; i < tables.n_items; ++i) {
        const std::int64_t first = tables.times[2 * i], last = tables.times[2 * i + 1];
        const bool never = first == kNever && last == kNever;
        if (!never && (first < 0 || first > last || last > newest)) refuse("times", i, "holds times that do not fit");
    }
}

ContextShape context_shape(const std::int64_t* sizes, std::int64_t count) {
    if (count > kMaxContext) {
        throw std::invalid_argument("there can be " + std::to_string(kMaxContext) + " context columns, not " +
                                    std::to_string(count));
    }
    ContextShape shape;
    for (std::int64_t c = 0; c < count; ++c) {
        if (sizes[c] < 1 || sizes[c] > kMaxColumnValues) {
            throw std::invalid_argument("a context column has 1.." + std::to_string(kMaxColumnValues) +
                                        " values, not " + std::to_string(sizes[c]));
        }
        shape.begins[c + 1] = shape.begins[c] + sizes[c];
    }
    shape.n_columns = count;
    return shape;
}

}  // namespace mtaw
