// Which instruction sets this process may use: detected once, lowered by MTAW_ISA.
#pragma once

namespace mtaw {

// Ordered: each x86 level has all that the levels under it have. `neon` is aarch64 with
// the dot product of bytes.
// avx2: with FMA. avx512: F, BW, DQ, VL. vnni: AVX-512 VNNI. bf16: AVX-512 BF16. amx: AMX tiles, INT8 and BF16.
enum class Isa { portable, neon, avx2, avx512, vnni, bf16, amx };

// The best level that the CPU and the operating system offer.
Isa cpu_isa();

// The level kernels use: cpu_isa(), or the lower one that the environment variable MTAW_ISA names when the
// first kernel is called. Throws std::invalid_argument on an unknown name, or a level this CPU lacks.
Isa active_isa();

const char* isa_name(Isa isa);

// The level called `name`. Throws std::invalid_argument as active_isa does.
Isa isa_named(const char* name);

}  // namespace mtaw
