#include "memory/ranker_net.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <string_view>

#include "trends/features.hpp"

namespace mtaw {
namespace {

std::int64_t whole_vectors(std::int64_t count) { return (count + kPadding - 1) / kPadding * kPadding; }

void check_units(const char* layer, std::int64_t count) {
    if (count < kPanel || count > kMaxUnits || count % kPanel != 0) {
        throw std::invalid_argument(std::string("the ranker's ") + layer + " hidden layer has " +
                                    std::to_string(count) + " units; it takes a multiple of " + std::to_string(kPanel) +
                                    " up to " + std::to_string(kMaxUnits));
    }
}

// n_features: of the ranker, without those of types. The last of an odd number of side features is an age, too.
bool is_bounded(std::int64_t feature, std::int64_t n_features) {
    if (feature < kFeatures || feature >= n_features) return false;
    if (feature >= kFeatures + kTrendFeatures) {
        return feature == n_features - 1 && (n_features - kFeatures - kTrendFeatures) % 2 == 1;
    }
    const std::string_view name = kTrendFeatureNames[feature - kFeatures];
    return std::find(std::begin(kBoundedFeatures), std::end(kBoundedFeatures), name) != std::end(kBoundedFeatures);
}

// weights[depth, n] in panels of kPanel outputs.
void pack_panels(const float* weights, std::int64_t depth, std::int64_t n, float* out) {
    for (std::int64_t panel = 0; panel < n; panel += kPanel) {
        for (std::int64_t k = 0; k < depth; ++k) {
            for (std::int64_t u = 0; u < kPanel; ++u) *out++ = weights[k * n + panel + u];
        }
    }
}

}  // namespace

RankerNet::RankerNet(const RankerWeights& weights)
    : n1_(weights.n1), n2_(weights.n2), n_types_(weights.n_types), start_width_(whole_vectors(weights.n1 + 1)) {
    if (n_types_ < 0 || n_types_ > kMaxTypes) {
        throw std::invalid_argument("the ranker reads " + std::to_string(n_types_) +
                                    " types of clicks; it takes at most " + std::to_string(kMaxTypes));
    }
    const std::int64_t n_untyped = weights.n_features - kTypeParts * n_types_, n_extra = n_untyped - kFeatures;
    if (n_extra != 0 && (n_extra < kTrendFeatures || n_extra > kTrendFeatures + kMaxSide)) {
        throw std::invalid_argument("the ranker is for " + std::to_string(weights.n_features) +
                                    " features, this release has " + std::to_string(kFeatures) + " and " +
                                    std::to_string(kTrendFeatures) + " of trends, and at most " +
                                    std::to_string(kMaxSide) + " of context and content; retrain it");
    }
    const bool trends = n_extra > 0;
    n_side_ = trends ? n_extra - kTrendFeatures : 0;
    const std::int64_t n_trend_query = trends ? kTrendQueryFeatures : 0, n_trend_columns = trends ? kTrendColumns : 0;
    n_query_ = kQueryFeatures + n_trend_query + n_types_;
    n_columns_ = n_types_ + n_side_ + n_trend_columns + kColumns + n_types_;
    const std::int64_t side = n_query_ + n_types_, candidates = side + n_side_ + n_trend_columns;
    // Where a feature's weights go: among the query's, or behind those among the columns.
    const auto index_of = [&](std::int64_t k) {
        if (k >= n_untyped) {
            const std::int64_t type = (k - n_untyped) % n_types_;
            const std::int64_t parts[kTypeParts] = {kQueryFeatures + n_trend_query, n_query_, candidates + kColumns};
            return parts[(k - n_untyped) / n_types_] + type;
        }
        if (k < kQueryFeatures) return k;
        if (k < kFeatures) return candidates + k - kQueryFeatures;
        if (k < kFeatures + kTrendQueryFeatures) return kQueryFeatures + k - kFeatures;
        if (k < kFeatures + kTrendFeatures) return side + n_side_ + k - kFeatures - kTrendQueryFeatures;
        return side + k - kFeatures - kTrendFeatures;
    };
    check_units("first", n1_);
    check_units("second", n2_);
    packed_ = AlignedFloats(start_width_ * (1 + n_query_) + whole_vectors(n_columns_) + n_columns_ * n1_ + n1_ * n2_ +
                            2 * whole_vectors(n2_));
    float* next = packed_.data();
    std::fill(next, next + packed_.size(), 0.0F);
    const auto allocate = [&next](std::int64_t size) {
        float* const block = next;
        next += size;
        return block;
    };
    float* const start = allocate(start_width_);
    float* const query = allocate(start_width_ * n_query_);
    float* const panels1 = allocate(n_columns_ * n1_);
    float* const panels2 = allocate(n1_ * n2_);
    float* const linear = allocate(whole_vectors(n_columns_));
    float* const bias2 = allocate(whole_vectors(n2_));
    float* const output = allocate(whole_vectors(n2_));

    // Standardizing is folded into the first layer: (f - mean) * scale * w = f * (scale * w) - mean * scale * w.
    std::vector<double> offset(static_cast<std::size_t>(n1_) + 1, 0.0);
    std::vector<float> folded(static_cast<std::size_t>(n_columns_ * n1_));
    for (std::int64_t k = 0; k < weights.n_features; ++k) {
        const double mean = weights.mean[k], scale = weights.scale[k];
        const std::int64_t index = index_of(k);
        places_.push_back(index);
        if (is_bounded(k, n_untyped) && scale > 0) {
            const double max_offset = kMaxDeviations / scale;
            const auto lowest = static_cast<float>(mean - max_offset), highest = static_cast<float>(mean + max_offset);
            if (index < n_query_) {
                query_bounds_.push_back({index, lowest, highest});
            } else {
                column_bounds_.push_back({index - n_query_, lowest, highest});
            }
        }
        for (std::int64_t u = 0; u <= n1_; ++u) {
            const double weight = scale * static_cast<double>(u < n1_ ? weights.w1[k * n1_ + u] : weights.linear[k]);
            offset[static_cast<std::size_t>(u)] += mean * weight;
            const auto rounded = static_cast<float>(weight);
            if (index < n_query_) {
                query[index * start_width_ + u] = rounded;
            } else if (u < n1_) {
                folded[static_cast<std::size_t>((index - n_query_) * n1_ + u)] = rounded;
            } else {
                linear[index - n_query_] = rounded;
            }
        }
    }
    for (std::int64_t u = 0; u <= n1_; ++u) {
        const double bias = static_cast<double>(u < n1_ ? weights.b1[u] : weights.bias);
        start[u] = static_cast<float>(bias - offset[static_cast<std::size_t>(u)]);
    }
    pack_panels(folded.data(), n_columns_, n1_, panels1);
    pack_panels(weights.w2, n1_, n2_, panels2);
    std::copy(weights.b2, weights.b2 + n2_, bias2);
    std::copy(weights.w3, weights.w3 + n2_, output);
    start_ = start;
    query_ = query;
    linear_ = linear;
    panels1_ = panels1;
    panels2_ = panels2;
    bias2_ = bias2;
    output_ = output;
}

void RankerNet::start(const float* query_features, const MemoryKernels& kernels, RankerScratch& scratch) const {
    float* const start = scratch.start.data();
    std::copy(start_, start_ + start_width_, start);
    float features[kQueryFeatures + kTrendQueryFeatures + kMaxTypes];
    std::copy_n(query_features, n_query_, features);
    for (const Bound& bound : query_bounds_) {
        features[bound.index] = std::clamp(features[bound.index], bound.lowest, bound.highest);
    }
    for (std::int64_t k = 0; k < n_query_; ++k) {
        kernels.add_scaled(start, query_ + k * start_width_, features[k], start_width_);
    }
}

void RankerNet::read_row(const float* query_features, const float* columns, std::int64_t depth, float* row) const {
    for (const std::int64_t place : places_) {
        const std::int64_t column = place - n_query_;
        *row++ = column < 0 ? query_features[place] : column < depth ? columns[column * kTile] : 0.0F;
    }
}

void RankerNet::score_rows(const float* rows, std::int64_t count, const MemoryKernels& kernels, float* scores) const {
    RankerScratch scratch;
    AlignedFloats query(n_query_ + kPadding), columns(n_columns_ * kTile);
    float tile_scores[kTile];
    for (std::int64_t r = 0; r < count; ++r) {
        std::fill(columns.data(), columns.data() + columns.size(), 0.0F);
        for (std::int64_t k = 0; k < n_features(); ++k) {
            const std::int64_t place = places_[static_cast<std::size_t>(k)];
            (place < n_query_ ? query.data()[place] : columns.data()[(place - n_query_) * kTile]) =
                rows[r * n_features() + k];
        }
        start(query.data(), kernels, scratch);
        const float* ahead[1] = {nullptr};
        score(columns.data(), n_columns_, 1, {ahead, 0, 0}, kernels, scratch, tile_scores);
        scores[r] = tile_scores[0];
    }
}

void RankerNet::score(float* columns, std::int64_t depth, std::int64_t count, const RowsAhead& ahead,
                      const MemoryKernels& kernels, RankerScratch& scratch, float* scores) const {
    for (const Bound& bound : column_bounds_) {
        float* const column = columns + bound.index * kTile;
        for (std::int64_t i = 0; i < count; ++i) column[i] = std::clamp(column[i], bound.lowest, bound.highest);
    }
    kernels.forward({columns, depth, n_columns_, scratch.start.data(), linear_, panels1_, panels2_, bias2_, output_,
                     n1_, n2_, scratch.hidden.data(), scores, ahead},
                    count);
}

}  // namespace mtaw
