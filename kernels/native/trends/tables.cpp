#include "trends/tables.hpp"

#include "array_checks.hpp"
#include "trends/build.hpp"

namespace mtaw {
namespace {

void check_context(const ContextView& context, std::int64_t n_items) {
    check_offsets("context_offsets", context.offsets, n_items, context.n_sums, 0);
    for (std::int64_t i = 0; i < n_items; ++i) {
        for (std::int64_t p = context.offsets[i]; p < context.offsets[i + 1]; ++p) {
            const std::int64_t value = context.values[p];
            if (value >= context.shape.n_values() || (p > context.offsets[i] && value <= context.values[p - 1])) {
                refuse("context_values", p, "is no value, or out of order");
            }
        }
    }
}

}  // namespace

void check_trends(const TrendsView& tables, const TrendSettings& settings) {
    check_trend_settings(settings);
    check_offsets("row_offsets", tables.row_offsets, tables.n_items, tables.n_pairs, settings.max_neighbors);
    check_range("neighbors", tables.neighbors, tables.n_pairs, tables.n_items);
    check_bfloat16_sums("values", tables.values, tables.n_pairs, kPairSums);
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
