// The ranker: score = linear(x) + MLP(x) of a candidate's standardized features x.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "encode/aligned.hpp"
#include "memory/features.hpp"
#include "memory/kernels.hpp"
#include "memory/own_items.hpp"

namespace mtaw {

// Arrays as training gives them, float32, row-major: x = (feature - mean) * scale,
// score = x . linear + bias + relu(relu(x w1 + b1) w2 + b2) . w3. x of kBoundedFeatures is kept within kMaxDeviations.
struct RankerWeights {
    // F: kFeatures; kTrendFeatures and at most kMaxSide more with trends; then e_last, e_near and e_own of each type
    std::int64_t n_features;
    std::int64_t n1, n2;  // hidden units, multiples of kPanel, at most kMaxUnits
    const float* mean;    // [F]
    const float* scale;   // [F]
    const float* linear;  // [F]
    const float* w1;      // [F, n1]
    const float* b1;      // [n1]
    const float* w2;      // [n1, n2]
    const float* b2;      // [n2]
    const float* w3;      // [n2]
    float bias;
    std::int64_t n_types = 0;  // of clicks
};

constexpr std::int64_t kMaxUnits = 256;

// One thread's working memory for rankers of any size.
struct RankerScratch {
    AlignedFloats start{kMaxUnits + kPadding};
    AlignedFloats hidden{kMaxUnits * kTile};
};

// Immutable: any number of threads may call it at once. Copies what it is made from.
class RankerNet {
   public:
    // Throws std::invalid_argument on sizes that do not fit the list of features or the kernels.
    explicit RankerNet(const RankerWeights& weights);

    // Whether it has weights for the features of trends.
    bool has_trends() const { return n_query_ - n_types_ > kQueryFeatures; }
    // How many side features it has weights for. They come after those of trends.
    std::int64_t n_side() const { return n_side_; }
    // How many types of clicks it has features for. Each has kTypeParts of them, after all other features.
    std::int64_t n_types() const { return n_types_; }

    // Computes the part of the scores that is the same for all candidates, into scratch.start. query_features: float32,
    // first kQueryFeatures, then kTrendQueryFeatures if it has trends, then n_types().
    void start(const float* query_features, const MemoryKernels& kernels, RankerScratch& scratch) const;

    // Computes the scores float32[kTile] of a tile of `count` candidates, and prefetches the rows ahead meanwhile.
    // columns: the features as SessionMemory::tile gives them, `depth` of them; they are bounded in place.
    void score(float* columns, std::int64_t depth, std::int64_t count, const RowsAhead& ahead,
               const MemoryKernels& kernels, RankerScratch& scratch, float* scores) const;

    // A candidate's features as one row, in the order of RankerWeights.
    std::int64_t n_features() const { return static_cast<std::int64_t>(places_.size()); }
    // Writes the row of the candidate whose values begin the columns: those behind `depth` are 0.
    void read_row(const float* query_features, const float* columns, std::int64_t depth, float* row) const;
    // The scores float32[count] of such rows, as `start` and `score` give them.
    void score_rows(const float* rows, std::int64_t count, const MemoryKernels& kernels, float* scores) const;

   private:
    // The bounds of a feature, and its index: among the features of the query, or among the columns.
    struct Bound {
        std::int64_t index;
        float lowest, highest;
    };

    std::int64_t n1_, n2_;
    std::int64_t n_query_, n_columns_, n_side_, n_types_;
    std::int64_t start_width_;  // n1_ + 1, rounded up to whole vectors
    std::vector<Bound> query_bounds_, column_bounds_;
    std::vector<std::int64_t> places_;  // by feature: among the query's, or behind those among the columns
    AlignedFloats packed_;
    const float* start_;    // [start_width_]
    const float* query_;    // [n_query_, start_width_]
    const float* linear_;   // [n_columns_]
    const float* panels1_;  // as ForwardPass
    const float* panels2_;
    const float* bias2_;
    const float* output_;
};

}  // namespace mtaw
