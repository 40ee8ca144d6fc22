#include "isa.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace mtaw {
namespace {

struct Level {
    Isa isa;
    const char* name;
};

constexpr std::array kLevels{
    Level{Isa::portable, "portable"}, Level{Isa::neon, "neon"}, Level{Isa::avx2, "avx2"}, Level{Isa::avx512, "avx512"},
    Level{Isa::vnni, "vnni"},         Level{Isa::bf16, "bf16"}, Level{Isa::amx, "amx"},
};

#if defined(__x86_64__)
// Linux hands out the 8 KiB of tile state on request only; the permission is the process's, threads included.
bool amx_permitted() {
#if defined(__linux__)
    constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
    constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

bool cpu_has_amx() {
    unsigned a = 7, b = 0, c = 0, d = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    constexpr unsigned kBf16 = 1U << 22, kTile = 1U << 24, kInt8 = 1U << 25;
    constexpr unsigned kAll = kBf16 | kTile | kInt8;
    return (d & kAll) == kAll;
}

Isa detect() {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::portable;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
        return Isa::avx2;
    }
    if (!__builtin_cpu_supports("avx512vnni")) return Isa::avx512;
    if (!__builtin_cpu_supports("avx512bf16")) return Isa::vnni;
    return cpu_has_amx() && amx_permitted() ? Isa::amx : Isa::bf16;
}
#elif defined(__aarch64__) && defined(__linux__)
Isa detect() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? Isa::neon : Isa::portable; }
#elif defined(__aarch64__)
Isa detect() { return Isa::neon; }
#else
Isa detect() { return Isa::portable; }
#endif

Isa requested() {
    const char* name = std::getenv("MTAW_ISA");
    return name == nullptr || *name == '\0' ? cpu_isa() : isa_named(name);
}

}  // namespace

Isa cpu_isa() {
    static const Isa isa = detect();
    return isa;
}

Isa active_isa() {
    static const Isa isa = requested();
    return isa;
}

const char* isa_name(Isa isa) {
    for (const Level& level : kLevels) {
        if (level.isa == isa) return level.name;
    }
    return "unknown";
}

Isa isa_named(const char* name) {
    for (const Level& level : kLevels) {
        if (std::strcmp(level.name, name) != 0) continue;
        const bool here =
            level.isa == Isa::portable ||
            (level.isa == Isa::neon ? cpu_isa() == Isa::neon : cpu_isa() != Isa::neon && level.isa <= cpu_isa());
        if (here) return level.isa;
        throw std::invalid_argument(std::string("this CPU has no instruction set '") + name +
                                    "'; the best it has is '" + isa_name(cpu_isa()) + "' (MTAW_ISA)");
    }
    throw std::invalid_argument(
        std::string("there is no instruction set '") + name +
        "'; set MTAW_ISA to portable, neon, avx2, avx512, vnni, bf16 or amx, or leave it unset");
}

}  // namespace mtaw
