// AVX-512 floats and the float32 Format on them; see tiles.hpp.
#pragma once

#include <immintrin.h>

#include "loss/exp2.hpp"
#include "loss/tiles.hpp"

namespace mtaw {
namespace {

struct Avx512Floats {
    using Vec = __m512;
    static constexpr int kLanes = 16;
    static constexpr int kRowVectors = 4;
    static constexpr int kDimVectors = 7;
    static constexpr int kItemsAtOnce = 3;

    static Vec zero() { return _mm512_setzero_ps(); }
    static Vec set(float x) { return _mm512_set1_ps(x); }
    static Vec load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Vec x) { _mm512_storeu_ps(p, x); }
    static Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
    static Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
    static Vec subtract(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
    static Vec divide(Vec a, Vec b) { return _mm512_div_ps(a, b); }
    static Vec at_least(Vec x, float bound) { return _mm512_max_ps(x, set(bound)); }
    static bool above(Vec x, float bound) { return _mm512_cmp_ps_mask(x, set(bound), _CMP_GT_OQ) != 0; }
    static Vec without_above(Vec x, float bound) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(bound), _CMP_NGT_UQ), x);
    }
    static Vec split(Vec x, Vec& exponent) {
        const __m512i bits = _mm512_castps_si512(x);
        const __m512i whole = _mm512_srai_epi32(_mm512_sub_epi32(bits, _mm512_set1_epi32(kRootHalfBits)), 23);
        exponent = _mm512_cvtepi32_ps(whole);
        return _mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(whole, 23)));
    }
    static float sum(Vec x) { return _mm512_reduce_add_ps(x); }
    static float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

    // vscalefps would do the last step in one instruction, of three cycles on Zen 4; these take half of one.
    template <int kDegree>
    static Vec exp2_by(const float* coefficients, Vec x, Vec factor) {
        const Vec shifted = _mm512_fmadd_ps(x, factor, _mm512_set1_ps(kRounder));
        const Vec f = _mm512_fmsub_ps(x, factor, _mm512_sub_ps(shifted, _mm512_set1_ps(kRounder)));
        Vec power = _mm512_set1_ps(coefficients[kDegree]);
        MTAW_UNROLL
        for (int k = kDegree - 1; k >= 0; --k) power = _mm512_fmadd_ps(power, f, _mm512_set1_ps(coefficients[k]));
        const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(power), exponent));
    }
};

}  // namespace
}  // namespace mtaw
