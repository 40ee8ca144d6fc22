#include <immintrin.h>

#include <cstdint>

#include "kernel.hpp"
#include "pass.hpp"

namespace mtaw {
namespace {

struct Avx512 {
    using Reg = __m512;
    using Half = __m256;
    static constexpr std::int64_t kLanes = 16;
    // 6 x 4 sums, 4 vectors of weights and a factor fit the 32 registers; a panel of weights (d x 64 floats) fits L1
    // at d = 100.
    static constexpr std::int64_t kRows = 6;
    static constexpr std::int64_t kColumns = 4;
    static constexpr std::int64_t kQueries = 4;
    static constexpr bool kHalves = true;

    static void prefetch(const float* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
    static Reg load(const float* p) { return _mm512_loadu_ps(p); }
    static Reg load_first(const float* p, std::int64_t n, float fill) {
        const unsigned bits = n >= kLanes ? 0xFFFFU : n > 0 ? (1U << n) - 1U : 0U;
        return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>(bits), p);
    }
    static void store(float* p, Reg v) { _mm512_storeu_ps(p, v); }
    static Reg broadcast(float value) { return _mm512_set1_ps(value); }
    static Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static Half load_half(const float* p) { return _mm256_loadu_ps(p); }
    static Half half_of(Reg v) { return _mm512_castps512_ps256(v); }
    static Half fma_half(Half a, Half b, Half c) { return _mm256_fmadd_ps(a, b, c); }
    static Reg widened(Half v) { return _mm512_zextps256_ps512(v); }  // with zeros
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
    static Reg power_of_two(Reg shifted) {
        const __m512i biased = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
    }
    static float root(float value) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(value))); }
    static double root(double value) { return _mm_cvtsd_f64(_mm_sqrt_pd(_mm_set1_pd(value))); }
    static float sum(Reg v) {
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
        __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
        quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
        return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
    }
    static float maximum(Reg v) { return _mm512_reduce_max_ps(v); }
    // The sums of the lanes of four vectors, next to each other.
    static void store_sums(float* out, Reg a, Reg b, Reg c, Reg d) {
        const Reg ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        const Reg cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        const Reg low = _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(1, 0, 1, 0));
        const Reg high = _mm512_shuffle_ps(ab, cd, _MM_SHUFFLE(3, 2, 3, 2));
        const Reg all = _mm512_add_ps(low, high);
        const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
        _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
    }
};

}  // namespace

const EncodeKernel& encode_kernel_avx512() {
    static constexpr EncodeKernel kernel = encode_kernel<Avx512>();
    return kernel;
}

}  // namespace mtaw
