// Rows alone: their operands before the catalog passes by, their loss and gradient after it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "loss/pass.hpp"

namespace mtaw {
namespace {

// Stores floats as the kernels' elements.
class ElementWriter {
   public:
    ElementWriter(std::byte* out, int pair) : out_(out), is_bf16_(pair == 2) {}

    void operator()(std::int64_t index, float x) const {
        if (!is_bf16_) {
            std::memcpy(out_ + index * 4, &x, sizeof x);
            return;
        }
        std::uint32_t bits = 0;
        std::memcpy(&bits, &x, sizeof bits);
        // To nearest, ties to even; a NaN stays one.
        const std::uint32_t rounded = std::isnan(x) ? bits | 0x400000U : bits + 0x7FFFU + ((bits >> 16U) & 1U);
        const auto half = static_cast<std::uint16_t>(rounded >> 16U);
        std::memcpy(out_ + index * 2, &half, sizeof half);
    }

   private:
    std::byte* out_;
    bool is_bf16_;
};

}  // namespace

double dot(const float* a, const float* b, std::int64_t count) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < count; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
    return sum;
}

// Normalizes the block's queries and packs them.
void LossPass::prepare_block(const Chunk& chunk, std::int64_t block) const {
    const std::int64_t rows = rows_of(chunk, block), first = block * plan_.block_rows, pair = kernels_.pair;
    const ElementWriter write(at_.queries + first * plan_.width * plan_.element_bytes, kernels_.pair);
    for (std::int64_t r = 0; r < rows; ++r) {
        const bool is_row = first + r < chunk.rows;
        float* unit = at_.unit + (first + r) * in_.d;
        if (is_row) normalize(chunk, first + r, unit);
        for (std::int64_t k = 0; k < plan_.width; ++k) {
            const bool is_set = is_row && k < in_.d;
            write((k / pair * rows + r) * pair + k % pair, is_set ? unit[k] : 0.0F);
        }
    }
}

void LossPass::normalize(const Chunk& chunk, std::int64_t row, float* unit) const {
    constexpr double kSmallestNorm = 1e-12;  // torch.nn.functional.normalize's
    const float* query = in_.queries + (chunk.begin + row) * in_.d;
    const double norm = std::sqrt(dot(query, query, in_.d));
    const double inverse = 1.0 / (norm < kSmallestNorm ? kSmallestNorm : norm);
    at_.query_norms[row] = static_cast<float>(inverse);
    for (std::int64_t k = 0; k < in_.d; ++k) unit[k] = static_cast<float>(static_cast<double>(query[k]) * inverse);
}

// Adds what the parts of the catalog gave rows first..first+rows-1, always in the same order, to the first part's.
void LossPass::add_others(std::int64_t first, std::int64_t rows) const {
    for (std::int64_t part = 1; part < plan_.parts; ++part) {
        const double* others = others_of(part);
        for (std::int64_t row = first; row < first + rows; ++row) at_.others[row] += others[row];
    }
}

// Log-probability of the row's target; `total` becomes the sum of all its exponentials.
double LossPass::log_p(const Chunk& chunk, std::int64_t row, double& total) const {
    const std::int64_t target = in_.targets[chunk.begin + row];
    const double others = items_are_finite_ ? at_.others[row] : std::numeric_limits<double>::quiet_NaN();
    const double norm = static_cast<double>(at_.inverse_norms[target]);
    const double logit = in_.scale * norm * dot(at_.unit + row * in_.d, in_.items + target * in_.d, in_.d);
    total = others + std::exp(logit);
    return -std::log1p(others * std::exp(-logit));
}

// From the sums over all items to the loss of the block's rows, their gradients and the operands of the items'.
void LossPass::finish_block(const Chunk& chunk, std::int64_t block) const {
    const std::int64_t rows = rows_of(chunk, block), first = block * plan_.block_rows;
    float* const sums = at_.query_sums + first * plan_.padded_d;
    for (std::int64_t part = 1; in_.d_queries != nullptr && part < plan_.parts; ++part) {
        const float* others = query_sums_of(part) + first * plan_.padded_d;
        for (std::int64_t k = 0; k < rows * plan_.padded_d; ++k) sums[k] += others[k];
    }
    std::vector<float> gradient(static_cast<std::size_t>(in_.d));
    for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t row = first + r;
        float factor = 0.0F;
        if (row < chunk.rows) {
            const RowScalars scalars = finish_loss(chunk, row);
            factor = static_cast<float>(scalars.factor);
            if (in_.d_queries != nullptr) {
                write_query_gradient(chunk, row, scalars, sums + r, rows, gradient.data());
            }
        }
        if (in_.d_items != nullptr) pack_weighted(row, factor, row < chunk.rows);
    }
}

LossPass::RowScalars LossPass::finish_loss(const Chunk& chunk, std::int64_t row) const {
    const std::int64_t id = chunk.begin + row;
    const auto weight = static_cast<double>(in_.row_weights[id]);
    RowScalars scalars{};
    if (in_.negatives) {
        const NegativeRowTerms& terms = negatives_.terms[static_cast<std::size_t>(row)];
        in_.loss[id] = static_cast<float>(terms.loss);
        const double slope = weight * in_.scale;
        scalars = {slope, slope * terms.target, slope * terms.dominant};
        at_.dominant_slopes[row] = static_cast<float>(scalars.at_dominant);
    } else {
        double total = 0.0;
        const RowTerms terms = row_terms(log_p(chunk, row, total), in_.gamma);
        in_.loss[id] = static_cast<float>(terms.loss);
        const double slope = weight * terms.slope * in_.scale;
        scalars = {slope / total, slope * terms.target, 0.0};
    }
    at_.target_slopes[row] = static_cast<float>(scalars.at_target);
    return scalars;
}

// sums: the row's, `stride` apart.
void LossPass::write_query_gradient(const Chunk& chunk, std::int64_t row, const RowScalars& scalars, const float* sums,
                                    std::int64_t stride, float* gradient) const {
    const std::int64_t id = chunk.begin + row, d = in_.d;
    const float* unit = at_.unit + row * d;
    const float* target = in_.items + in_.targets[id] * d;
    const double by_target = scalars.at_target * static_cast<double>(at_.inverse_norms[in_.targets[id]]);
    for (std::int64_t k = 0; k < d; ++k) {
        gradient[k] = static_cast<float>(scalars.factor * static_cast<double>(sums[k * stride]) +
                                         by_target * static_cast<double>(target[k]));
    }
    const std::int64_t dominant = in_.negatives ? negatives_.dominants[static_cast<std::size_t>(row)] : -1;
    if (dominant >= 0) {
        const double by_dominant = scalars.at_dominant * static_cast<double>(at_.inverse_norms[dominant]);
        const float* vector = in_.items + dominant * d;
        for (std::int64_t k = 0; k < d; ++k) {
            gradient[k] =
                static_cast<float>(static_cast<double>(gradient[k]) + by_dominant * static_cast<double>(vector[k]));
        }
    }
    const double along = dot(gradient, unit, d);
    const auto inverse = static_cast<double>(at_.query_norms[row]);
    float* out = in_.d_queries + id * d;
    for (std::int64_t k = 0; k < d; ++k) {
        const double rest = static_cast<double>(gradient[k]) - along * static_cast<double>(unit[k]);
        out[k] = static_cast<float>(rest * inverse);
    }
}

void LossPass::pack_weighted(std::int64_t row, float factor, bool is_row) const {
    const std::int64_t pair = kernels_.pair;
    const ElementWriter write(at_.weighted, kernels_.pair);
    const std::int64_t first = row / pair * plan_.tile_width * pair + row % pair;
    for (std::int64_t k = 0; k < plan_.tile_width; ++k) {
        write(first + k * pair, is_row && k < in_.d ? factor * at_.unit[row * in_.d + k] : 0.0F);
    }
}

}  // namespace mtaw
