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
#define ADAINFER_TARGET_BFLOAT16 \
    gnu::target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16")
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

/// True where the machine multiplies pairs of bfloat16: AVX512_BF16, and VBMI for packing them.
[[nodiscard]] inline bool has_bfloat16() noexcept {
#if ADAINFER_X86
    return best_cpu_level() == CpuLevel::Avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

/// True where that is faster than floats. AMD (Zen 4 and later) starts as many of these instructions a cycle as of float ones, each
/// with twice the products. Intel takes longer for them than for float ones (Sapphire Rapids, measured on one core: 110 GFLOP/s
/// where floats do 215), its fast unit for bfloat16 being AMX.
[[nodiscard]] inline bool has_fast_bfloat16() noexcept {
#if ADAINFER_X86
    return has_bfloat16() && __builtin_cpu_is("amd");
#else
    return false;
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
