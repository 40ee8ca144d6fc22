// Python bindings of the trends: build, check, update, query.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "bindings.hpp"
#include "buffers.hpp"
#include "named_arrays.hpp"
#include "python_objects.hpp"
#include "trends/build.hpp"
#include "trends/tables.hpp"
#include "trends/trends.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

// The arrays in a mapping by name, those of context too if they are there; valid as long as the arrays.
TrendsView bound_trends(const py::dict& arrays) {
    TrendsView view{};
    view.row_offsets = named<std::int64_t>(arrays, "row_offsets", "int64", {kAny});
    view.n_items = length(arrays, "row_offsets") - 1;
    if (view.n_items < 0) throw py::value_error("row_offsets must have at least one entry, 0");
    view.neighbors = named<std::int32_t>(arrays, "neighbors", "int32", {kAny});
    view.n_pairs = length(arrays, "neighbors");
    view.values = named<std::uint16_t>(arrays, "values", "uint16", {view.n_pairs, kPairSums});
    view.totals = named<float>(arrays, "totals", "float32", {view.n_items, kPairSums});
    view.counts = named<float>(arrays, "counts", "float32", {view.n_items, kItemSums});
    view.times = named<std::int64_t>(arrays, "times", "int64", {view.n_items, 2});
    view.sums = named<double>(arrays, "sums", "float64", {kItemSums});
    view.clock = named<std::int64_t>(arrays, "clock", "int64", {kItemLanes + 1});
    if (!arrays.contains("context_sizes")) return view;
    const std::int64_t* const sizes = named<std::int64_t>(arrays, "context_sizes", "int64", {kAny});
    ContextView& context = view.context;
    context.shape = context_shape(sizes, length(arrays, "context_sizes"));
    context.offsets = named<std::int64_t>(arrays, "context_offsets", "int64", {view.n_items + 1});
    context.values = named<std::uint16_t>(arrays, "context_values", "uint16", {kAny});
    context.n_sums = length(arrays, "context_values");
    context.sums = named<float>(arrays, "context_sums", "float32", {context.n_sums});
    context.totals = named<double>(arrays, "context_totals", "float64", {context.shape.n_values()});
    return view;
}

TrendSettings trend_settings(const std::vector<std::int64_t>& half_lives, std::int64_t window,
                             std::int64_t max_neighbors) {
    if (half_lives.size() != kItemLanes) {
        throw py::value_error("there must be " + std::to_string(kItemLanes) + " half-lives, not " +
                              std::to_string(half_lives.size()));
    }
    TrendSettings settings{{}, window, max_neighbors};
    std::copy(half_lives.begin(), half_lives.end(), settings.half_lives.ms);
    return settings;
}

using MaybeArray = std::optional<py::array>;

// Of `count` clicks or queries; null without.
const std::uint16_t* codes_of(const MaybeArray& context, std::int64_t count, std::int64_t n_columns) {
    if (!context) return nullptr;
    const std::uint16_t* const codes = checked_data<std::uint16_t>(*context, 2, "context", "uint16");
    if (context->shape(0) != count || context->shape(1) != n_columns) {
        throw py::value_error("context must be [" + std::to_string(count) + ", " + std::to_string(n_columns) +
                              "], a code for each column of the trends");
    }
    return codes;
}

py::dict trends_build(const py::array& items, const py::array& offsets, const py::array& times, std::int64_t n_items,
                      const std::vector<std::int64_t>& half_lives, std::int64_t window, std::int64_t max_neighbors,
                      int threads, std::int64_t once_from, std::int64_t newest, const MaybeArray& context,
                      const std::vector<std::int64_t>& context_sizes, std::int64_t first, std::int64_t last) {
    if (n_items < 0 || n_items > std::numeric_limits<std::int32_t>::max()) {
        throw py::value_error("n_items must be in 0..2147483647, not " + std::to_string(n_items));
    }
    const std::int64_t* bounds = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
    TimedSessions sessions{checked_data<std::int32_t>(items, 1, "items", "int32"),
                           bounds,
                           checked_data<std::int64_t>(times, 1, "times", "int64"),
                           offsets.shape(0) - 1,
                           n_items,
                           once_from,
                           newest};
    if (offsets.shape(0) < 1 || bounds[0] != 0 || bounds[sessions.count] != items.shape(0)) {
        throw py::value_error("offsets must run from 0 to " + std::to_string(items.shape(0)) +
                              ", the number of clicks");
    }
    if (times.shape(0) != items.shape(0)) throw py::value_error("times must have one entry for each click");
    const auto n_columns = static_cast<std::int64_t>(context_sizes.size());
    sessions.shape = context_shape(context_sizes.data(), n_columns);
    sessions.context = codes_of(context, items.size(), n_columns);
    sessions.first = first;
    sessions.last = last;
    if (sessions.context == nullptr && n_columns > 0) throw py::value_error("context_sizes need context");
    const TrendSettings settings = trend_settings(half_lives, window, max_neighbors);
    std::unique_ptr<TrendsBuild> build;
    {
        const Unlocked unlocked;
        build = std::make_unique<TrendsBuild>(sessions, settings, threads);
    }
    py::dict arrays;
    const std::int64_t n_rows = last - first;
    TrendsOut out{
        .row_offsets = new_array<std::int64_t>(arrays, "row_offsets", {n_rows + 1}),
        .neighbors = new_array<std::int32_t>(arrays, "neighbors", {build->n_pairs()}),
        .values = new_array<std::uint16_t>(arrays, "values", {build->n_pairs(), std::int64_t{kPairSums}}),
        .totals = new_array<float>(arrays, "totals", {n_rows, std::int64_t{kPairSums}}),
        .counts = new_array<float>(arrays, "counts", {n_rows, std::int64_t{kItemSums}}),
        .times = new_array<std::int64_t>(arrays, "times", {n_rows, std::int64_t{2}}),
        .sums = new_array<double>(arrays, "sums", {std::int64_t{kItemSums}}),
        .clock = new_array<std::int64_t>(arrays, "clock", {std::int64_t{kItemLanes + 1}}),
    };
    if (n_columns > 0) {
        std::copy_n(context_sizes.data(), n_columns, new_array<std::int64_t>(arrays, "context_sizes", {n_columns}));
        out.context_offsets = new_array<std::int64_t>(arrays, "context_offsets", {n_rows + 1});
        out.context_values = new_array<std::uint16_t>(arrays, "context_values", {build->n_context_sums()});
        out.context_sums = new_array<float>(arrays, "context_sums", {build->n_context_sums()});
        out.context_totals = new_array<double>(arrays, "context_totals", {sessions.shape.n_values()});
    }
    const Unlocked unlocked;
    build->write(out);
    build.reset();
    return arrays;
}

void trends_check(const py::dict& arrays, const std::vector<std::int64_t>& half_lives, std::int64_t window,
                  std::int64_t max_neighbors) {
    const TrendsView view = bound_trends(arrays);
    const TrendSettings settings = trend_settings(half_lives, window, max_neighbors);
    const Unlocked unlocked;
    check_trends(view, settings);
}

// Prefixes of packed clicks, their times where known, and the moment of each query.
struct Prefixes {
    const std::int32_t* items;
    const std::int64_t* begins;
    const std::int64_t* ends;
    const std::int64_t* now;
    const std::int64_t* times = nullptr;
    std::int64_t count;
    const std::uint16_t* context = nullptr;  // [count, n_columns]
    std::int64_t n_columns = 0;
    const ItemContent* content = nullptr;

    // `own`: room for kTrendOwn.
    TrendsRequest request(std::int64_t q, std::int32_t* own) const {
        TrendsRequest request = trends_request(items + begins[q], times == nullptr ? nullptr : times + begins[q],
                                               ends[q] - begins[q], now[q], own);
        if (context != nullptr) request.context = context + q * n_columns;
        request.content = content;
        return request;
    }
};

class TrendsObject {
   public:
    TrendsObject(const py::dict& arrays, const std::vector<std::int64_t>& half_lives, std::int64_t window,
                 std::int64_t max_neighbors, std::int64_t capacity, std::int64_t ahead, std::int64_t row_neighbors,
                 const std::optional<std::string>& isa, bool once)
        : owners_(arrays.attr("copy")()),
          kernels_(&column_kernels(isa ? isa_named(isa->c_str()) : active_isa())),
          trends_(bound_trends(owners_), trend_settings(half_lives, window, max_neighbors),
                  {capacity, ahead, row_neighbors, once}) {}

    Trends& trends() { return trends_; }
    const Trends& trends() const { return trends_; }

    void click(const py::array& handles, const py::array& items, const py::array& times, const MaybeArray& arrivals,
               const MaybeArray& context) {
        TrendClicks clicks{checked_data<std::int64_t>(handles, 1, "handles", "int64"),
                           checked_data<std::int32_t>(items, 1, "items", "int32"),
                           checked_data<std::int64_t>(times, 1, "times", "int64"),
                           arrivals ? checked_data<std::int64_t>(*arrivals, 1, "arrivals", "int64") : nullptr,
                           handles.size()};
        if (items.size() != clicks.count || times.size() != clicks.count ||
            (arrivals && arrivals->size() != clicks.count)) {
            throw py::value_error("handles, items, times and arrivals must be of one length");
        }
        clicks.context = codes_of(context, clicks.count, trends_.context_shape().n_columns);
        const Unlocked unlocked;
        trends_.click(clicks);
    }

    void forget_in_tables(const py::array& items, const py::array& times, const py::dict& remaining,
                          const py::array& ids, bool once, const MaybeArray& context) {
        const std::int32_t* const clicks = checked_data<std::int32_t>(items, 1, "items", "int32");
        const std::int64_t* const click_times = checked_data<std::int64_t>(times, 1, "times", "int64");
        const std::int32_t* const item_ids = checked_data<std::int32_t>(ids, 1, "ids", "int32");
        if (items.size() != times.size()) throw py::value_error("times must have one entry for each click");
        const TrendsView view = bound_trends(remaining);
        if (view.n_items != ids.size()) throw py::value_error("ids must name each item of the tables that are left");
        for (std::int64_t i = 0; i < ids.size(); ++i) {
            check_item("ids", i, item_ids[i], i == 0 ? 0 : item_ids[i - 1] + 1);
        }
        const std::uint16_t* const codes = codes_of(context, items.size(), trends_.context_shape().n_columns);
        const Unlocked unlocked;
        trends_.forget_in_tables({clicks, click_times, codes, items.size(), once}, view, item_ids);
    }

    bool forget(std::int64_t handle) {
        const Unlocked unlocked;
        return trends_.forget(handle);
    }

    py::array_t<std::int32_t> candidates(const py::array& items, const py::array& begins, const py::array& ends,
                                         const py::array& now, std::int64_t n) const {
        if (n < 0 || n > 1 << 16) throw py::value_error("n must be in 0..65536, not " + std::to_string(n));
        const Prefixes prefixes = prefixes_of(items, begins, ends, now, {});
        const std::int64_t width = n + kTrendRising;
        py::array_t<std::int32_t> ids({prefixes.count, width});
        std::int32_t* const data = ids.mutable_data();
        std::vector<float> scores(static_cast<std::size_t>(width));
        for_each_query(prefixes, [&](std::int64_t q, const TrendsRequest& request, TrendsScratch& scratch) {
            const std::int64_t count =
                trends_.choose_candidates(request, n, data + q * width, scores.data(), *kernels_, scratch);
            std::fill(data + q * width + count, data + (q + 1) * width, -1);
        });
        return ids;
    }

    py::array_t<float> features(const py::array& items, const py::array& begins, const py::array& ends,
                                const py::array& now, const py::array& candidates, const MaybeArray& times,
                                const MaybeArray& context, const py::object& content) const {
        Prefixes prefixes = prefixes_of(items, begins, ends, now, times);
        prefixes.n_columns = trends_.context_shape().n_columns;
        prefixes.context = codes_of(context, prefixes.count, prefixes.n_columns);
        prefixes.content = item_content_of(content);
        const std::int64_t n_side = n_side_features(trends_.context_shape(), prefixes.content);
        const std::int32_t* const ids = matrix<std::int32_t>(candidates, "candidates", "int32");
        if (candidates.shape(0) != prefixes.count)
            throw py::value_error("candidates must have one row for each prefix");
        const std::int64_t width = candidates.shape(1);
        for (std::int64_t i = 0; i < candidates.size(); ++i) check_item("candidates", i, ids[i], -1);
        py::array_t<float> out({prefixes.count, width, kTrendFeatures + n_side});
        float* const data = out.mutable_data();
        std::fill(data, data + out.size(), 0.0F);
        for_each_query(prefixes, [&](std::int64_t q, const TrendsRequest&, TrendsScratch& scratch) {
            std::vector<std::int32_t> known;
            std::vector<std::int64_t> rows;
            for (std::int64_t i = 0; i < width; ++i) {
                if (ids[q * width + i] < 0) continue;
                known.push_back(ids[q * width + i]);
                rows.push_back(q * width + i);
            }
            const auto count = static_cast<std::int64_t>(known.size());
            trends_.measure(known.data(), count, *kernels_, scratch);
            std::vector<float> columns(static_cast<std::size_t>(kTrendColumns * kTile)),
                side(static_cast<std::size_t>(kMaxSide * kTile));
            for (std::int64_t begin = 0; begin < count; begin += kTile) {
                const std::int64_t n_tile = std::min(kTile, count - begin);
                trends_.fill(begin, n_tile, columns.data(), side.data(), *kernels_, scratch);
                for (std::int64_t i = 0; i < n_tile; ++i) {
                    float* row = data + rows[static_cast<std::size_t>(begin + i)] * (kTrendFeatures + n_side);
                    row = std::copy_n(scratch.query_features(), kTrendQueryFeatures, row);
                    for (std::int64_t k = 0; k < kTrendColumns; ++k)
                        *row++ = columns[static_cast<std::size_t>(k * kTile + i)];
                    for (std::int64_t k = 0; k < n_side; ++k) *row++ = side[static_cast<std::size_t>(k * kTile + i)];
                }
            }
        });
        return out;
    }

    py::tuple rising(std::int64_t now, std::int64_t k) const {
        if (k < 1 || k > kTrendMaxRising) {
            throw py::value_error("k must be in 1.." + std::to_string(kTrendMaxRising) + ", not " + std::to_string(k));
        }
        std::vector<std::int32_t> ids(static_cast<std::size_t>(k));
        std::vector<float> scores(static_cast<std::size_t>(k));
        std::int64_t count;
        {
            const Unlocked unlocked;
            const auto locked = trends_.reading();
            count = trends_.rising(now, k, ids.data(), scores.data());
        }
        return py::make_tuple(py::array_t<std::int32_t>(count, ids.data()), py::array_t<float>(count, scores.data()));
    }

    py::tuple row(std::int32_t item, std::int64_t now) const {
        check_item("item", 0, item, 0);
        std::vector<std::int32_t> neighbors;
        std::vector<double> values;
        {
            const Unlocked unlocked;
            const auto locked = trends_.reading();
            trends_.row(item, now, neighbors, values);
        }
        const auto count = static_cast<py::ssize_t>(neighbors.size());
        return py::make_tuple(py::array_t<std::int32_t>(count, neighbors.data()),
                              py::array_t<double>({count, py::ssize_t{kPairSums}}, values.data()));
    }

    // Of items: their decayed counts, and seconds since their first and last click.
    py::array_t<float> counts(const py::array& items, std::int64_t now) const {
        const std::int32_t* const ids = checked_data<std::int32_t>(items, 1, "items", "int32");
        for (std::int64_t i = 0; i < items.size(); ++i) check_item("items", i, ids[i], 0);
        py::array_t<float> out({items.size(), py::ssize_t{kItemSums + 2}});
        float* data = out.mutable_data();
        const Unlocked unlocked;
        const auto locked = trends_.reading();
        now = std::max(now, trends_.delta().newest());
        const TrendFactors factors = trends_.factors_at(now);
        for (std::int64_t i = 0; i < items.size(); ++i) {
            const TrendItem item = trends_.item_at(ids[i], trends_.delta().find(ids[i]), now, factors);
            data = std::copy_n(item.values, kItemSums + 2, data);
        }
        return out;
    }

    // Decayed clicks of an item by value of the context: float32[values].
    py::array_t<float> context(std::int32_t item, std::int64_t now) const {
        check_item("item", 0, item, 0);
        const std::int64_t count = trends_.context_shape().n_values();
        py::array_t<float> out(count);
        float* const data = out.mutable_data();
        const Unlocked unlocked;
        const auto locked = trends_.reading();
        const TrendFactors factors = trends_.factors_at(std::max(now, trends_.delta().newest()));
        const ItemDelta* const delta = trends_.delta().find(item);
        for (std::int64_t value = 0; value < count; ++value)
            data[value] = trends_.context_sum(item, delta, value, factors);
        return out;
    }

    // The sessions since, by the time of their last click, ties by handle.
    py::tuple sessions() const {
        std::vector<std::int64_t> handles;
        std::int64_t clicks = 0;
        const auto locked = trends_.reading();
        const auto& all = trends_.delta().sessions();
        for (const auto& [handle, session] : all) {
            handles.push_back(handle);
            clicks += static_cast<std::int64_t>(session.items.size());
        }
        const auto last = [&](std::int64_t handle) {
            const auto& times = all.at(handle).times;
            return times.empty() ? kNever : times.back();
        };
        std::sort(handles.begin(), handles.end(),
                  [&](std::int64_t a, std::int64_t b) { return last(a) != last(b) ? last(a) < last(b) : a < b; });
        const auto count = static_cast<py::ssize_t>(handles.size());
        py::array_t<std::int32_t> items(clicks);
        py::array_t<std::int64_t> times(clicks), offsets(count + 1);
        std::int32_t* item = items.mutable_data();
        std::int64_t* time = times.mutable_data();
        std::int64_t* offset = offsets.mutable_data();
        *offset = 0;
        for (const std::int64_t handle : handles) {
            const auto& session = all.at(handle);
            item = std::copy(session.items.begin(), session.items.end(), item);
            time = std::copy(session.times.begin(), session.times.end(), time);
            offset[1] = offset[0] + static_cast<std::int64_t>(session.items.size());
            ++offset;
        }
        return py::make_tuple(py::array_t<std::int64_t>(count, handles.data()), items, times, offsets);
    }

    py::dict counters() const {
        const auto locked = trends_.reading();
        const TrendCounters& counters = trends_.delta().counters();
        py::dict out;
        out["clicks"] = counters.clicks;
        out["clamped"] = counters.clamped;
        out["late"] = counters.late;
        out["cut"] = counters.cut;
        out["moves"] = counters.moves;
        out["sessions"] = trends_.delta().n_sessions();
        out["bytes"] = trends_.delta().n_bytes();
        out["newest"] = trends_.delta().newest();
        return out;
    }

    std::int64_t nth_newest(std::size_t rank) const {
        const auto locked = trends_.reading();
        return trends_.delta().nth_newest(rank);
    }

   private:
    void check_item(const char* name, std::int64_t index, std::int32_t item, std::int32_t minimum) const {
        if (item < minimum || item >= trends_.capacity()) {
            throw py::index_error(std::string(name) + "[" + std::to_string(index) + "] is " + std::to_string(item) +
                                  ", outside " + std::to_string(minimum) + ".." +
                                  std::to_string(trends_.capacity() - 1));
        }
    }

    Prefixes prefixes_of(const py::array& items, const py::array& begins, const py::array& ends, const py::array& now,
                         const MaybeArray& times) const {
        Prefixes out{checked_data<std::int32_t>(items, 1, "items", "int32"),
                     checked_data<std::int64_t>(begins, 1, "begins", "int64"),
                     checked_data<std::int64_t>(ends, 1, "ends", "int64"),
                     checked_data<std::int64_t>(now, 1, "now", "int64"),
                     nullptr,
                     begins.size()};
        if (times) {
            out.times = checked_data<std::int64_t>(*times, 1, "times", "int64");
            if (times->size() != items.size()) throw py::value_error("times must have one entry for each click");
        }
        bool fits = ends.size() == out.count && now.size() == out.count;
        for (std::int64_t q = 0; fits && q < out.count; ++q) {
            fits = out.begins[q] >= 0 && out.begins[q] < out.ends[q] && out.ends[q] <= items.size();
        }
        if (!fits)
            throw py::value_error(
                "begins, ends and now must name positions in items with a click between them, and a moment");
        for (std::int64_t i = 0; i < items.size(); ++i) check_item("items", i, out.items[i], 0);
        return out;
    }

    // work(q, request, scratch) for every prefix, all of one state, without the GIL.
    template <typename Work>
    void for_each_query(const Prefixes& prefixes, const Work& work) const {
        const Unlocked unlocked;
        TrendsScratch& scratch = thread_trends_scratch();
        const auto locked = trends_.reading();
        std::int32_t own[kTrendOwn];
        for (std::int64_t q = 0; q < prefixes.count; ++q) {
            const TrendsRequest request = prefixes.request(q, own);
            trends_.start(request, *kernels_, scratch);
            work(q, request, scratch);
        }
    }

    py::dict owners_;  // kept alive
    const ColumnKernels* kernels_;
    Trends trends_;
};

// The columns of an item table that become features, kept alive.
class ContentObject {
   public:
    ContentObject(const std::vector<py::array>& categories, const MaybeArray& created)
        : categories_(categories), created_(created) {
        const auto count = static_cast<std::int64_t>(categories.size());
        if (count > kMaxCategories)
            throw py::value_error("at most " + std::to_string(kMaxCategories) + " category columns");
        content_.n_categories = count;
        content_.n_items = count > 0 ? categories[0].size() : created ? created->size() : 0;
        for (std::int64_t k = 0; k < count; ++k) {
            const py::array& codes = categories_[static_cast<std::size_t>(k)];
            content_.categories[k] = checked_data<std::int32_t>(codes, 1, "categories", "int32");
            check(codes);
        }
        if (!created_) return;
        content_.created = checked_data<std::int64_t>(*created_, 1, "created", "int64");
        check(*created_);
    }
    const ItemContent& content() const { return content_; }

   private:
    void check(const py::array& column) const {
        if (column.size() != content_.n_items) throw py::value_error("the columns must be of one length");
    }

    std::vector<py::array> categories_;
    MaybeArray created_;
    ItemContent content_;
};

}  // namespace

const ItemContent* item_content_of(py::handle object) {
    return object.is_none() ? nullptr : &py::cast<const ContentObject&>(object).content();
}

TrendsScratch& thread_trends_scratch() {
    thread_local TrendsScratch scratch;
    return scratch;
}

const Trends& trends_of(py::handle object) { return py::cast<const TrendsObject&>(object).trends(); }

void bind_trends(py::module_& module) {
    module.def("trend_feature_names", [] {
        py::tuple names(kTrendFeatures);
        for (std::int64_t k = 0; k < kTrendFeatures; ++k)
            names[static_cast<std::size_t>(k)] = py::str(kTrendFeatureNames[k]);
        return names;
    });
    module.def("trends_build", &trends_build, py::arg("items"), py::arg("offsets"), py::arg("times"),
               py::arg("n_items"), py::arg("half_lives"), py::arg("window"), py::arg("max_neighbors"),
               py::arg("threads"), py::arg("once_from"), py::arg("newest"), py::arg("context"),
               py::arg("context_sizes"), py::arg("first"), py::arg("last"));
    py::class_<ContentObject>(module, "ItemContent")
        .def(py::init<const std::vector<py::array>&, const MaybeArray&>(), py::arg("categories"),
             py::arg("created") = py::none());
    module.def("trends_check", &trends_check, py::arg("arrays"), py::arg("half_lives"), py::arg("window"),
               py::arg("max_neighbors"));
    py::class_<TrendsObject>(module, "Trends", "See mtaw_fast.kernels.native.trends.")
        .def(py::init<const py::dict&, const std::vector<std::int64_t>&, std::int64_t, std::int64_t, std::int64_t,
                      std::int64_t, std::int64_t, const std::optional<std::string>&, bool>(),
             py::arg("arrays"), py::arg("half_lives"), py::arg("window"), py::arg("max_neighbors"), py::arg("capacity"),
             py::arg("ahead"), py::arg("row_neighbors"), py::arg("isa") = py::none(), py::arg("once") = false)
        .def("click", &TrendsObject::click, py::arg("handles"), py::arg("items"), py::arg("times"),
             py::arg("arrivals") = py::none(), py::arg("context") = py::none())
        .def("context", &TrendsObject::context, py::arg("item"), py::arg("now"))
        .def("forget", &TrendsObject::forget, py::arg("handle"))
        .def("forget_in_tables", &TrendsObject::forget_in_tables, py::arg("items"), py::arg("times"), py::arg("left"),
             py::arg("ids"), py::arg("once"), py::arg("context") = py::none())
        .def("candidates", &TrendsObject::candidates, py::arg("items"), py::arg("begins"), py::arg("ends"),
             py::arg("now"), py::arg("n"))
        .def("features", &TrendsObject::features, py::arg("items"), py::arg("begins"), py::arg("ends"), py::arg("now"),
             py::arg("candidates"), py::arg("times") = py::none(), py::arg("context") = py::none(),
             py::arg("content") = py::none())
        .def("rising", &TrendsObject::rising, py::arg("now"), py::arg("k"))
        .def("row", &TrendsObject::row, py::arg("item"), py::arg("now"))
        .def("counts", &TrendsObject::counts, py::arg("items"), py::arg("now"))
        .def("sessions", &TrendsObject::sessions)
        .def("counters", &TrendsObject::counters)
        .def("nth_newest", &TrendsObject::nth_newest, py::arg("rank"));
}

}  // namespace mtaw
