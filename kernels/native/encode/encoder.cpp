#include "encoder.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>

namespace mtaw {
namespace {

// Hands out consecutive pieces of one allocation, each a multiple of a cache line, zeroed.
class Packer {
   public:
    Packer(float* begin, std::int64_t d, std::int64_t width, const EncodeKernel& kernel)
        : next_(begin), d_(d), width_(width), kernel_(kernel) {}

    float* rows(const float* source, std::int64_t n, double scale = 1) {
        float* const out = take(n * width_);
        for (std::int64_t row = 0; row < n; ++row) {
            for (std::int64_t c = 0; c < d_; ++c) out[row * width_ + c] = scaled(source[row * d_ + c], scale);
        }
        return out;
    }

    // weight[out, in] in panels of outputs.
    PackedLayer layer(const float* weight, const float* bias, double scale = 1) {
        float* const panels = take(d_ * width_);
        for (std::int64_t column = 0; column < d_; column += kernel_.panel) {
            const std::int64_t panel = panel_floats(d_, column, kernel_.panel, kernel_.halves);
            for (std::int64_t in = 0; in < d_; ++in) {
                for (std::int64_t lane = 0; lane < panel && column + lane < d_; ++lane) {
                    panels[column * d_ + in * panel + lane] = scaled(weight[(column + lane) * d_ + in], scale);
                }
            }
        }
        return {panels, rows(bias, 1, scale)};
    }

    float* filled(float value) {
        float* const out = take(width_);
        std::fill(out, out + d_, value);
        return out;
    }

   private:
    static float scaled(float value, double scale) { return static_cast<float>(value * scale); }

    float* take(std::int64_t size) {
        float* const out = next_;
        std::fill(out, out + size, 0.0F);
        next_ += size;
        return out;
    }

    float* next_;
    std::int64_t d_, width_;
    const EncodeKernel& kernel_;
};

constexpr double kMaxRecent = 1000;

std::uint64_t next_number() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

void check_size(const char* name, std::int64_t value) {
    if (value < 1) {
        throw std::invalid_argument(std::string("the encoder's ") + name + " must be at least 1, not " +
                                    std::to_string(value));
    }
}

}  // namespace

const EncodeKernel& encode_kernel_for(Isa isa) {
#if defined(__x86_64__)
    if (isa >= Isa::avx512) return encode_kernel_avx512();
    if (isa == Isa::avx2) return encode_kernel_avx2();
#elif defined(__aarch64__)
    if (isa == Isa::neon) return encode_kernel_neon();
#endif
    return encode_kernel_portable();
}

Encoder::Encoder(const EncoderWeights& weights, Isa isa) : kernel_(&encode_kernel_for(isa)), max_len_(weights.max_len) {
    check_size("n_items", weights.n_items);
    check_size("d", weights.d);
    check_size("n_positions", weights.n_positions);
    check_size("max_len", weights.max_len);
    if (!(weights.recent >= 0 && weights.recent <= kMaxRecent)) {
        throw std::invalid_argument("the encoder's recent must be in 0..1000, not " + std::to_string(weights.recent));
    }
    if (!(weights.recent_decay >= 0 && weights.recent_decay < 1)) {
        throw std::invalid_argument("the encoder's recent_decay must be in [0, 1), not " +
                                    std::to_string(weights.recent_decay));
    }
    constexpr double kLog2E = 1.4426950408889634;
    const std::int64_t d = weights.d, width = (d + kEncodeLanes - 1) / kEncodeLanes * kEncodeLanes;
    const std::int64_t positions = std::min(weights.n_positions, weights.max_len);
    constexpr std::int64_t kLayers = 4, kVectors = 4;  // besides the layers' biases: norm_*, valid, zeros
    auto packed = std::make_shared<AlignedFloats>(width * (positions + kLayers * (d + 1) + kVectors));
    Packer pack(packed->data(), d, width, *kernel_);
    packed_ = packed;
    key_ = {next_number(), weights.n_added > 0 ? next_number() : 0};
    const double query_scale = kLog2E / std::sqrt(static_cast<double>(d));
    model_ = {
        .n_items = weights.n_items + weights.n_added,
        .n_base = weights.n_items,
        .d = d,
        .width = width,
        .n_positions = positions,
        .items = weights.item_embedding,
        .added = weights.added_embedding,
        .positions = pack.rows(weights.position_embedding, positions),
        .itl_query = pack.layer(weights.itl_query_weight, weights.itl_query_bias, query_scale),
        .ffn_in = pack.layer(weights.ffn_in_weight, weights.ffn_in_bias),
        .ffn_out = pack.layer(weights.ffn_out_weight, weights.ffn_out_bias),
        .iel_query = pack.layer(weights.iel_query_weight, weights.iel_query_bias, query_scale),
        .norm_weight = pack.rows(weights.norm_weight, 1),
        .norm_bias = pack.rows(weights.norm_bias, 1),
        .valid = pack.filled(1.0F),
        .zeros = pack.filled(0.0F),
        .recent = {},
        .recent_total = {},
    };
    double power = 1, total = 0;
    for (std::int64_t k = 0; k < kRecentClicks; ++k, power *= weights.recent_decay) {
        total += power;
        model_.recent[k] = weights.recent * std::sqrt(static_cast<double>(d)) * power;
        model_.recent_total[k] = total;
    }
}

Encoder Encoder::with_added(const float* added, std::int64_t n) const {
    Encoder other(*this);
    other.model_.added = added;
    other.model_.n_items = model_.n_base + n;
    other.key_.added = n > 0 ? next_number() : 0;
    return other;
}

bool Encoder::agrees(const Key& state_key, const std::int32_t* clicks, std::int64_t n_clicks) const {
    if (state_key.weights != key_.weights) return false;
    if (state_key.added == key_.added) return true;
    return std::all_of(clicks, clicks + n_clicks, [&](std::int32_t click) { return click < model_.n_base; });
}

void Encoder::check(const std::int32_t* clicks, std::int64_t n_clicks) const {
    for (std::int64_t t = 0; t < n_clicks; ++t) {
        if (clicks[t] < 0 || clicks[t] >= model_.n_items) {
            throw std::out_of_range("click " + std::to_string(t) + " has internal item id " +
                                    std::to_string(clicks[t]) + ", outside 0.." + std::to_string(model_.n_items - 1));
        }
    }
}

void Encoder::encode(const std::int32_t* clicks, std::int64_t n_clicks, float* out, EncodeScratch& scratch) const {
    if (n_clicks < 1) throw std::invalid_argument("a session to encode has no clicks; leave it out");
    check(clicks, n_clicks);
    const std::int64_t used = std::min(n_clicks, max_len_);
    clicks += n_clicks - used;
    const std::int64_t interest_floats = used * model_.width;
    float* const interests = scratch.reserve(interest_floats + encode_work(model_.width, used));
    kernel_->track(model_, clicks, 0, used, interests, interests + interest_floats);
    kernel_->enhance(model_, clicks, interests, used, out, interests + interest_floats);
}

}  // namespace mtaw
