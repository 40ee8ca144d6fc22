#include "scan/kernel.hpp"

namespace mtaw {

ScanKernels scan_kernels(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::amx) return scan_kernels_amx();
    if (isa >= Isa::vnni) return scan_kernels_vnni();
    if (isa == Isa::avx512) return scan_kernels_avx512();
    if (isa == Isa::avx2) return scan_kernels_avx2();
#elif defined(__aarch64__)
    if (isa == Isa::neon) return scan_kernels_neon();
#else
    (void)isa;
#endif
#if defined(__wasm_simd128__)
    return scan_kernels_wasm();
#else
    return scan_kernels_portable();
#endif
}

}  // namespace mtaw
