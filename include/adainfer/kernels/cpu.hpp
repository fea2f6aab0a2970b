#pragma once

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "adainfer/core/error.hpp"

// Which instructions the kernels may use. A kernel for some level is a function with a target attribute, so that a program
// built for any x86-64 holds all of them and takes the best one that the machine has; -march is nobody's business.

#if defined(__x86_64__) && defined(__GNUC__)
#define ADAINFER_X86 1
#define ADAINFER_TARGET_AVX2 gnu::target("avx,avx2,fma,f16c,bmi,bmi2")
#define ADAINFER_TARGET_AVX512 gnu::target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
// GCC 12's own AVX-512 intrinsics start from an uninitialised register and warn about it wherever they are inlined.
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#else
#define ADAINFER_X86 0
#endif

namespace adainfer::inline v0 {

/// Instruction sets, each with those before it.
enum class CpuLevel : std::uint8_t {
    Portable,  ///< what the compiler was told
    Avx2,      ///< and FMA, F16C
    Avx512     ///< F, BW, DQ, VL, VNNI
};

[[nodiscard]] constexpr std::string_view to_string(CpuLevel level) noexcept {
    switch (level) {
        case CpuLevel::Portable: return "portable";
        case CpuLevel::Avx2: return "avx2";
        case CpuLevel::Avx512: return "avx512";
    }
    return "unknown";
}

/// What this machine has.
[[nodiscard]] inline CpuLevel best_cpu_level() noexcept {
#if ADAINFER_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    if (!avx2) return CpuLevel::Portable;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vnni");
    return avx512 ? CpuLevel::Avx512 : CpuLevel::Avx2;
#else
    return CpuLevel::Portable;
#endif
}

/// What this machine has, or the level that the environment variable ADAINFER_CPU names: portable, avx2 or avx512. Throws
/// InvalidArgument for another name and for a level that the machine does not have.
[[nodiscard]] inline CpuLevel cpu_level() {
    const char* const forced = std::getenv("ADAINFER_CPU");
    const CpuLevel best = best_cpu_level();
    if (forced == nullptr || *forced == '\0') return best;
    for (const CpuLevel level : {CpuLevel::Portable, CpuLevel::Avx2, CpuLevel::Avx512}) {
        if (to_string(level) != forced) continue;
        if (level > best) {
            fail(ErrorCode::InvalidArgument, "ADAINFER_CPU is '", forced, "', but this machine is at level '", to_string(best), "'");
        }
        return level;
    }
    fail(ErrorCode::InvalidArgument, "ADAINFER_CPU is '", forced, "'; levels: portable, avx2, avx512");
}

}  // namespace adainfer::inline v0
