// What C++ leaves to compilers.
#pragma once

#if defined(__GNUC__)
#define MTAW_INLINE inline __attribute__((always_inline))
#define MTAW_COLD __attribute__((noinline, cold))
#define MTAW_PREFETCH(address) __builtin_prefetch(address)
#define MTAW_PREFETCH_L2(address) __builtin_prefetch(address, 0, 2)
#else
#define MTAW_INLINE inline
#define MTAW_COLD
#define MTAW_PREFETCH(address)
#define MTAW_PREFETCH_L2(address)
#endif
