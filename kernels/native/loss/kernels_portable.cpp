// Plain C++, float32: four lanes that compilers turn into SSE2's or NEON's.
#include <cmath>
#include <cstring>

#include "loss/exp2.hpp"
#include "loss/float_format.hpp"

namespace mtaw {
namespace {

struct Vec4 {
    float lane[4];
};

struct PortableFloats {
    using Vec = Vec4;
    static constexpr int kLanes = 4;
    static constexpr int kRowVectors = 2;
    static constexpr int kDimVectors = 4;
    static constexpr int kItemsAtOnce = 3;

    template <typename Make>
    static Vec each(const Make& make) {
        return {{make(0), make(1), make(2), make(3)}};
    }

    static Vec zero() { return {}; }
    static Vec set(float x) { return {{x, x, x, x}}; }
    static Vec load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    static void store(float* p, Vec x) { std::memcpy(p, x.lane, sizeof x.lane); }
    static Vec add(Vec a, Vec b) {
        return each([&](int k) { return a.lane[k] + b.lane[k]; });
    }
    static Vec mul(Vec a, Vec b) {
        return each([&](int k) { return a.lane[k] * b.lane[k]; });
    }
    static Vec multiply_add(Vec a, Vec b, Vec c) {
        return each([&](int k) { return a.lane[k] * b.lane[k] + c.lane[k]; });
    }
    static Vec subtract(Vec a, Vec b) {
        return each([&](int k) { return a.lane[k] - b.lane[k]; });
    }
    static Vec divide(Vec a, Vec b) {
        return each([&](int k) { return a.lane[k] / b.lane[k]; });
    }
    static Vec at_least(Vec x, float bound) {
        return each([&](int k) { return x.lane[k] > bound ? x.lane[k] : bound; });
    }
    static bool above(Vec x, float bound) {
        return x.lane[0] > bound || x.lane[1] > bound || x.lane[2] > bound || x.lane[3] > bound;
    }
    static Vec without_above(Vec x, float bound) {
        return each([&](int k) { return x.lane[k] > bound ? 0.0F : x.lane[k]; });
    }
    static Vec split(Vec x, Vec& exponent) {
        Vec mantissa;
        for (int k = 0; k < 4; ++k) {
            std::int32_t bits = 0;
            std::memcpy(&bits, x.lane + k, sizeof bits);
            const std::int32_t whole = (bits - kRootHalfBits) >> 23;
            bits -= whole * (1 << 23);
            exponent.lane[k] = static_cast<float>(whole);
            std::memcpy(mantissa.lane + k, &bits, sizeof bits);
        }
        return mantissa;
    }
    static float sum(Vec x) { return (x.lane[0] + x.lane[1]) + (x.lane[2] + x.lane[3]); }
    static float square_root(float x) { return std::sqrt(x); }

    static float exp2_of(float x) {
        const float shifted = x + kRounder;
        const float f = x - (shifted - kRounder);
        float power = kExp2[kExp2Degree];
        for (int k = kExp2Degree - 1; k >= 0; --k) power = power * f + kExp2[k];
        std::uint32_t exponent = 0, bits = 0;
        std::memcpy(&exponent, &shifted, sizeof exponent);
        std::memcpy(&bits, &power, sizeof bits);
        bits += exponent << 23U;
        std::memcpy(&power, &bits, sizeof power);
        return power;
    }
    static Vec exp2(Vec x, Vec factor) {
        return each([&](int k) { return exp2_of(x.lane[k] * factor.lane[k]); });
    }
};

}  // namespace

const LossKernels kLossPortable = kernels_of<FloatFormat<PortableFloats>>(pack_float_items<PortableFloats>);

}  // namespace mtaw
