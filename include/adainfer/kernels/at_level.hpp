#pragma once

#include "adainfer/kernels/cpu.hpp"

namespace adainfer::inline v0 {

namespace detail {

#if ADAINFER_X86
// Everything that f calls is inlined, so that loops written once are compiled for each level. Clang's flatten inlines direct calls
// only: what those call in turn must be always_inline.
template <class F>
[[ADAINFER_TARGET_AVX2, gnu::flatten, gnu::noinline]] void run_avx2(const F& f) {
    f();
}
template <class F>
[[ADAINFER_TARGET_AVX512, gnu::flatten, gnu::noinline]] void run_avx512(const F& f) {
    f();
}
#endif

}  // namespace detail

/// f() as compiled for the level: for plain loops that a compiler vectorises. f must not reach what it cannot inline, such as a
/// thread pool: that code stays as the compiler was told. On 64-bit Arm that is all there is, as every such machine has NEON.
template <class F>
void at_level([[maybe_unused]] CpuLevel level, const F& f) {
#if ADAINFER_X86
    if (level >= CpuLevel::Avx512) return detail::run_avx512(f);
    if (level == CpuLevel::Avx2) return detail::run_avx2(f);
#endif
    f();
}

/// The same for a level that is known while compiling: one copy of f in place of one a level.
template <CpuLevel level, class F>
void at_level(const F& f) {
#if ADAINFER_X86
    if constexpr (level >= CpuLevel::Avx512) detail::run_avx512(f);
    else if constexpr (level == CpuLevel::Avx2) detail::run_avx2(f);
    else f();
#else
    f();
#endif
}

}  // namespace adainfer::inline v0
