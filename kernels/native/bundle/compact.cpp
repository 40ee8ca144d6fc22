// What a compact bundle leaves out (mtaw_fast/bundle/compact.py), made when it is opened: the same bits as in Python.
#include <bit>
#include <cmath>

#include "bundle/bundle.hpp"
#include "bundle/failure.hpp"

namespace mtaw {
namespace {

// IEEE half precision; every value of it is one of float.
float float_of(std::uint16_t half) {
    constexpr std::uint32_t kInfiniteExponent = 31, kBias = 127 - 15;
    const std::uint32_t sign = std::uint32_t{half} >> 15 << 31, exponent = half >> 10 & 31U, fraction = half & 1023U;
    if (exponent == 0) {
        const float size = std::ldexp(static_cast<float>(fraction), -24);
        return sign != 0 ? -size : size;
    }
    return std::bit_cast<float>(sign | (exponent == kInfiniteExponent ? 255U : exponent + kBias) << 23 |
                                fraction << 13);
}

// Of one row, in a call of its own: browsers make a function faster from one call to the next.
[[gnu::noinline]] void widen(const std::uint16_t* in, std::int64_t d, float* out) {
    for (std::int64_t j = 0; j < d; ++j) out[j] = float_of(in[j]);
}

// A row divided by its length; zeros stay zeros. As mtaw_fast/model/item_vectors.py, to the bit.
[[gnu::noinline]] void normalize(const float* in, std::int64_t d, float* out) {
    double length = 0;
    for (std::int64_t j = 0; j < d; ++j) length += static_cast<double>(in[j]) * static_cast<double>(in[j]);
    length = length > 0 ? std::sqrt(length) : 1;
    for (std::int64_t j = 0; j < d; ++j) out[j] = static_cast<float>(static_cast<double>(in[j]) / length);
}

}  // namespace

void Bundle::read_embedding() {
    const TensorFile& from = file("weights");
    const std::int64_t n = size(), d = manifest_.settings.d;
    if (has("catalog") || !from.is("item_embedding", Dtype::f16)) {
        embedding_ = from.get<float>("item_embedding", {n, d});
        return;
    }
    const auto* const halves = static_cast<const std::uint16_t*>(from.get("item_embedding", Dtype::f16, {n, d}));
    made_embedding_ = AlignedFloats(n * d);
    for (std::int64_t i = 0; i < n; ++i) widen(halves + i * d, d, made_embedding_.data() + i * d);
    embedding_ = made_embedding_.data();
}

void Bundle::read_rows() {
    const std::int64_t n = size(), d = manifest_.settings.d;
    if (has("catalog")) {
        rows_ = file("catalog").get<float>("catalog", {n, d});
        return;
    }
    made_rows_ = AlignedFloats(n * d);
    for (std::int64_t i = 0; i < n; ++i) normalize(embedding_ + i * d, d, made_rows_.data() + i * d);
    rows_ = made_rows_.data();
}

}  // namespace mtaw
