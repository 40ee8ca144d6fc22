// AVX2 with FMA, float32.
#include <immintrin.h>

#include "loss/exp2.hpp"
#include "loss/float_format.hpp"

namespace mtaw {
namespace {

struct Avx2Floats {
    using Vec = __m256;
    static constexpr int kLanes = 8;
    static constexpr int kRowVectors = 2;
    static constexpr int kDimVectors = 4;
    static constexpr int kItemsAtOnce = 3;

    static Vec zero() { return _mm256_setzero_ps(); }
    static Vec set(float x) { return _mm256_set1_ps(x); }
    static Vec load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Vec x) { _mm256_storeu_ps(p, x); }
    static Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
    static Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
    static Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
    static float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

    static Vec subtract(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
    static Vec divide(Vec a, Vec b) { return _mm256_div_ps(a, b); }
    static Vec at_least(Vec x, float bound) { return _mm256_max_ps(x, set(bound)); }
    static bool above(Vec x, float bound) { return _mm256_movemask_ps(_mm256_cmp_ps(x, set(bound), _CMP_GT_OQ)) != 0; }
    static Vec without_above(Vec x, float bound) { return _mm256_and_ps(x, _mm256_cmp_ps(x, set(bound), _CMP_NGT_UQ)); }
    static Vec split(Vec x, Vec& exponent) {
        const __m256i bits = _mm256_castps_si256(x);
        const __m256i whole = _mm256_srai_epi32(_mm256_sub_epi32(bits, _mm256_set1_epi32(kRootHalfBits)), 23);
        exponent = _mm256_cvtepi32_ps(whole);
        return _mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(whole, 23)));
    }
    static float sum(Vec x) {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }

    static Vec exp2(Vec x, Vec factor) {
        const Vec shifted = _mm256_fmadd_ps(x, factor, set(kRounder));
        const Vec f = _mm256_fmsub_ps(x, factor, _mm256_sub_ps(shifted, set(kRounder)));
        Vec power = set(kExp2[kExp2Degree]);
        MTAW_UNROLL
        for (int k = kExp2Degree - 1; k >= 0; --k) power = multiply_add(power, f, set(kExp2[k]));
        const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(power), exponent));
    }
};

}  // namespace

const LossKernels kLossAvx2 = kernels_of<FloatFormat<Avx2Floats>>(pack_float_items<Avx2Floats>);

}  // namespace mtaw
