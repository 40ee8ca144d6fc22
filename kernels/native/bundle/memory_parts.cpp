// The parts of a bundle that rank by past sessions: tables, ranker, trends, content and context.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "bundle/bundle.hpp"
#include "bundle/failure.hpp"
#include "memory/tables.hpp"
#include "text/utf8.hpp"
#include "trends/tables.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kOwnCandidates = 60;                     // as kernels/native/memory_query.py
constexpr double kTablesLayout = 1;                             // as mtaw_fast/memory/files.py
constexpr std::int64_t kAhead = 300'000, kRowNeighbors = 2048;  // as kernels/native/trends.py

// A whole number of a `settings` array.
std::int64_t checked_count(const TensorFile& file, double value, std::int64_t minimum) {
    constexpr auto kMax = static_cast<double>(std::numeric_limits<std::int32_t>::max());
    if (!(value >= static_cast<double>(minimum) && value <= kMax && value == std::floor(value))) {
        throw bundle_error(file.bytes().path() + ": a setting is out of range" + kRetrain);
    }
    return static_cast<std::int64_t>(value);
}

std::vector<std::string> lines_of(std::string_view text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.emplace_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return lines;
}

// The columns that features with this prefix are made from.
std::vector<std::string> columns_with_prefix(const std::vector<std::string>& features, const std::string& prefix) {
    std::vector<std::string> found;
    for (const std::string& name : features) {
        if (name.starts_with(prefix)) found.push_back(name.substr(prefix.size()));
    }
    return found;
}

// The names of side features of these columns, in the order of the native features.
std::vector<std::string> side_names(const std::vector<std::string>& context, const std::vector<std::string>& categories,
                                    const std::vector<std::string>& created) {
    std::vector<std::string> names;
    for (const std::string& name : context) names.insert(names.end(), {"c_share_" + name, "c_lift_" + name});
    for (const std::string& name : categories) names.insert(names.end(), {"i_same_" + name, "i_part_" + name});
    for (const std::string& name : created) names.push_back("i_age_" + name);
    return names;
}

}  // namespace

void Bundle::make_memory() {
    const TensorFile& from = file("memory");
    from.check_names({"row_offsets", "neighbors", "latest", "values", "totals", "counts", "post_offsets", "postings",
                      "session_offsets", "session_items", "settings"});
    const double* const setting_values = from.get<double>("settings", {8});
    if (setting_values[0] != kTablesLayout)
        throw bundle_error(from.bytes().path() + ": its layout is not 1; train, or export, again");
    MemorySettings settings{checked_count(from, setting_values[1], 1), checked_count(from, setting_values[2], 1),
                            setting_values[4], checked_count(from, setting_values[5], 0),
                            checked_count(from, setting_values[6], 0)};
    const auto is_positive = [](double value) { return value > 0 && std::isfinite(value); };
    if (!is_positive(settings.recency) || !is_positive(setting_values[3])) {
        throw bundle_error(from.bytes().path() + ": the setting recency is out of range" + kRetrain);
    }
    if (setting_values[7] != 0) settings.once_from = checked_count(from, setting_values[7] - 1, 0);
    read_tables(from, settings);
    const std::int64_t n = size();
    const Settings& query_settings = manifest_.settings;
    MemoryView view{};
    static_cast<TablesView&>(view) = tables_;
    view.recency = settings.recency;
    view.once_from = settings.once_from;
    const MemoryQuerySettings queries{
        kOwnCandidates, query_settings.cooccurrence_candidates, query_settings.dense_candidates,
        trends_ == nullptr ? 0 : query_settings.trend_candidates, query_settings.ranked_candidates};
    memory_ = std::make_unique<SessionMemory>(view, queries, n);
}

void Bundle::read_tables(const TensorFile& from, const MemorySettings& settings) {
    const std::int64_t n = size(), n_sessions = from.length("session_offsets") - 1;
    const std::int64_t n_pairs = from.length("neighbors"), n_postings = from.length("postings"),
                       n_clicks = from.length("session_items");
    if (n_sessions < 0)
        throw bundle_error(from.bytes().path() + ": session_offsets must have at least one entry, 0" + kRetrain);
    tables_ = {n,
               n_sessions,
               from.get<std::int64_t>("row_offsets", {n + 1}),
               from.get<std::int32_t>("neighbors", {n_pairs}),
               from.get<std::int32_t>("latest", {n_pairs}),
               from.get<std::uint16_t>("values", {n_pairs, kPairKinds}),
               from.get<float>("totals", {n, kPairKinds}),
               from.get<std::int32_t>("counts", {n, kCountKinds}),
               from.get<std::int64_t>("post_offsets", {n + 1}),
               from.get<std::int32_t>("postings", {n_postings}),
               from.get<std::int64_t>("session_offsets", {n_sessions + 1}),
               from.get<std::int32_t>("session_items", {n_clicks})};
    check_tables(tables_, settings, n_pairs, n_postings, n_clicks);
}

void Bundle::make_ranker() {
    const TensorFile& from = file("ranker");
    from.check_names({"mean", "scale", "linear", "w1", "b1", "w2", "b2", "w3", "bias", "features"});
    if (!is_utf8(from.text("features")))
        throw bundle_error(from.bytes().path() + ": the feature names are damaged" + kRetrain);
    const std::vector<std::string> feature_names = lines_of(from.text("features"));
    types_ = columns_with_prefix(feature_names, "e_last_");
    const auto n_types = static_cast<std::int64_t>(types_.size());
    const std::ptrdiff_t n_untyped = std::max<std::ptrdiff_t>(std::ssize(feature_names) - kTypeParts * n_types, 0);
    const std::vector<std::string> features(feature_names.begin(), feature_names.begin() + n_untyped);
    std::vector<std::string> expected_features(kFeatureNames, kFeatureNames + kFeatures);
    if (features.size() > expected_features.size()) {
        expected_features.insert(expected_features.end(), kTrendFeatureNames, kTrendFeatureNames + kTrendFeatures);
        if (features.size() > expected_features.size())
            side_.assign(features.begin() + static_cast<std::ptrdiff_t>(expected_features.size()), features.end());
        const std::vector<std::string> side =
            side_names(columns_with_prefix(side_, "c_share_"), columns_with_prefix(side_, "i_same_"),
                       columns_with_prefix(side_, "i_age_"));
        expected_features.insert(expected_features.end(), side.begin(), side.end());
    }
    for (const std::string part : {"e_last_", "e_near_", "e_own_"}) {
        for (const std::string& name : types_) expected_features.push_back(part + name);
    }
    if (feature_names != expected_features)
        throw bundle_error(from.bytes().path() + ": its features are not this release's; retrain the bundle");
    const auto f = static_cast<std::int64_t>(feature_names.size()), n1 = from.length("b1"), n2 = from.length("b2");
    for (const auto& [name, tensor] : from.tensors()) {
        const auto* const values = static_cast<const float*>(tensor.data);
        if (tensor.dtype == Dtype::f32 &&
            !std::all_of(values, values + tensor.size(), [](float value) { return std::isfinite(value); })) {
            throw bundle_error(from.bytes().path() + ": " + shown(name) + " has a value that is not finite" + kRetrain);
        }
    }
    ranker_ = std::make_unique<RankerNet>(RankerWeights{
        .n_features = f,
        .n1 = n1,
        .n2 = n2,
        .mean = from.get<float>("mean", {f}),
        .scale = from.get<float>("scale", {f}),
        .linear = from.get<float>("linear", {f}),
        .w1 = from.get<float>("w1", {f, n1}),
        .b1 = from.get<float>("b1", {n1}),
        .w2 = from.get<float>("w2", {n1, n2}),
        .b2 = from.get<float>("b2", {n2}),
        .w3 = from.get<float>("w3", {n2}),
        .bias = *from.get<float>("bias", {1}),
        .n_types = n_types,
    });
}

void Bundle::make_trends() {
    constexpr double kHour = 3'600'000;
    const TensorFile& from = file("trends");
    from.check_names({"row_offsets", "neighbors", "values", "totals", "counts", "times", "sums", "clock", "settings"},
                     {"context_sizes", "context_offsets", "context_values", "context_sums", "context_totals"});
    const double* const setting_values = from.get<double>("settings", {kItemLanes + 3});
    if (setting_values[0] != 1)
        throw bundle_error(from.bytes().path() + ": its layout is not 1; train, or export, again");
    TrendSettings settings{{},
                           checked_count(from, setting_values[kItemLanes + 1], 1),
                           checked_count(from, setting_values[kItemLanes + 2], 0)};
    std::int64_t previous_half_life = 0;
    for (int lane = 0; lane < kItemLanes; ++lane) {
        const double hours = setting_values[1 + lane];
        if (!(hours > 0 && hours <= static_cast<double>(kMaxHalfLife) / kHour)) {
            throw bundle_error(from.bytes().path() + ": a half-life is out of range" + kRetrain);
        }
        settings.half_lives.ms[lane] = std::llrint(hours * kHour);
        if (settings.half_lives.ms[lane] <= previous_half_life)
            throw bundle_error(from.bytes().path() + ": its half-lives do not ascend" + kRetrain);
        previous_half_life = settings.half_lives.ms[lane];
    }
    const std::int64_t n = size(), n_pairs = from.length("neighbors");
    TrendsView view{};
    view.n_items = n;
    view.n_pairs = n_pairs;
    view.row_offsets = from.get<std::int64_t>("row_offsets", {n + 1});
    view.neighbors = from.get<std::int32_t>("neighbors", {n_pairs});
    view.values = from.get<std::uint16_t>("values", {n_pairs, kPairSums});
    view.totals = from.get<float>("totals", {n, kPairSums});
    view.counts = from.get<float>("counts", {n, kItemSums});
    view.times = from.get<std::int64_t>("times", {n, 2});
    view.sums = from.get<double>("sums", {kItemSums});
    view.clock = from.get<std::int64_t>("clock", {kItemLanes + 1});
    if (from.has("context_sizes")) {
        ContextView& context = view.context;
        context.shape = context_shape(from.get<std::int64_t>("context_sizes", {kAny}), from.length("context_sizes"));
        context.n_sums = from.length("context_values");
        context.offsets = from.get<std::int64_t>("context_offsets", {n + 1});
        context.values = from.get<std::uint16_t>("context_values", {context.n_sums});
        context.sums = from.get<float>("context_sums", {context.n_sums});
        context.totals = from.get<double>("context_totals", {context.shape.n_values()});
    }
    check_trends(view, settings);
    trends_ = std::make_unique<Trends>(view, settings, TrendLimits{n, kAhead, kRowNeighbors, false});
}

// Where the table is gone, or lacks a column, everything in it is missing.
void Bundle::make_content() {
    const std::vector<std::string> categories = columns_with_prefix(side_, "i_same_"),
                                   created = columns_with_prefix(side_, "i_age_");
    if (trends_ == nullptr || (categories.empty() && created.empty())) return;
    const std::int64_t n_rows = items_ ? size() : 0;
    const auto column_of = [&](const std::string& name) {
        return items_ ? find_column(items_->columns(), name) : nullptr;
    };
    content_.emplace();
    content_->n_items = n_rows;
    if (categories.size() > kMaxCategories || created.size() > 1)
        throw std::invalid_argument("the ranker reads too many columns");
    content_->n_categories = static_cast<std::int64_t>(categories.size());
    made_codes_.reserve(categories.size());
    for (std::size_t k = 0; k < categories.size(); ++k) {
        const Column* const column = column_of(categories[k]);
        if (column != nullptr && column->kind == ColumnKind::category) {
            content_->categories[k] = column->codes;
            continue;
        }
        std::vector<std::int32_t>& codes = made_codes_.emplace_back(static_cast<std::size_t>(n_rows), kNoCategory);
        if (column != nullptr && column->kind == ColumnKind::categories) {  // the first one of a row
            for (std::int64_t i = 0; i < n_rows; ++i) {
                if (column->offsets[i] < column->offsets[i + 1])
                    codes[static_cast<std::size_t>(i)] = column->codes[column->offsets[i]];
            }
        }
        content_->categories[k] = codes.data();
    }
    if (created.empty()) return;
    const Column* const column = column_of(created.front());
    made_times_.reserve(1);  // an address even where there is no row
    if (column == nullptr || column->kind != ColumnKind::time)
        made_times_.assign(static_cast<std::size_t>(n_rows), kNoTime);
    content_->created = column != nullptr && column->kind == ColumnKind::time ? column->times : made_times_.data();
}

void Bundle::read_context() {
    const std::vector<std::string> expected_names = columns_with_prefix(side_, "c_share_");
    std::vector<std::string> names;
    bool fits = true;
    if (has("context")) {
        const TensorFile& from = file("context");
        Json columns;
        try {
            columns = Json::parse(from.text("columns"));
        } catch (const std::invalid_argument& error) {
            throw bundle_error(from.bytes().path() + ": the columns are damaged (" + error.what() + ")" + kRetrain);
        }
        const ContextShape* const shape = trends_ == nullptr ? nullptr : &trends_->context_shape();
        fits = columns.is(Json::Kind::list) && shape != nullptr &&
               static_cast<std::int64_t>(columns.list().size()) == shape->n_columns;
        for (std::size_t c = 0; fits && c < columns.list().size(); ++c) {
            const Json *const name = columns.list()[c].find("name"), *const values = columns.list()[c].find("values");
            fits = name != nullptr && values != nullptr && name->is(Json::Kind::text) && values->is(Json::Kind::list);
            if (!fits) break;
            ContextColumns::Column column{name->text(), {}};
            for (const Json& value : values->list()) {
                if (!value.is(Json::Kind::text)) throw std::invalid_argument("a value of its context is no text");
                // 0: no value, 1: another one than these.
                column.codes.emplace(value.text(), static_cast<std::uint16_t>(2 + column.codes.size()));
            }
            fits = column.codes.size() == values->list().size() &&
                   static_cast<std::int64_t>(column.codes.size()) + 1 == shape->begins[c + 1] - shape->begins[c];
            fits = fits && std::find(names.begin(), names.end(), column.name) == names.end();
            names.push_back(column.name);
            context_.columns.push_back(std::move(column));
        }
        const auto n_columns = static_cast<std::int64_t>(names.size());
        const std::int64_t n_clicks = has_memory() ? file("memory").length("session_items") : 0;
        const auto* const codes = from.get<std::uint16_t>("codes", {n_clicks, n_columns});
        for (std::int64_t i = 0; fits && i < n_clicks * n_columns; ++i) {
            const std::int64_t c = i % n_columns;
            if (codes[i] > shape->begins[c + 1] - shape->begins[c])
                throw std::invalid_argument("a code of its context lies outside its column");
        }
    } else {
        fits = trends_ == nullptr || trends_->context_shape().n_columns == 0;
    }
    if (!fits || names != expected_names)
        throw std::invalid_argument("its ranker, its trends and its context do not belong together");
}

}  // namespace mtaw
