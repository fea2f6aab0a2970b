#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/kernels/amx_permission.hpp"

// Which instructions the kernels may use. A kernel for some level is a function with a target attribute, so that a program
// built for any x86-64 or 64-bit Arm holds all of them and takes the best one that the machine has; -march is nobody's business.

#if defined(__x86_64__) && defined(__GNUC__)
#define ADAINFER_X86 1
#define ADAINFER_TARGET_AVX2 gnu::target("avx,avx2,fma,f16c,bmi,bmi2")
#define ADAINFER_TARGET_AVX512 gnu::target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define ADAINFER_TARGET_BFLOAT16 \
    gnu::target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512bf16")
#define ADAINFER_TARGET_AMX gnu::target("avx,avx2,fma,f16c,bmi,bmi2,avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
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

// Clang before 16 declares the dot product only where the command line asks for it.
#if defined(__aarch64__) && defined(__GNUC__) && (!defined(__clang__) || __clang_major__ >= 16 || defined(__ARM_FEATURE_DOTPROD))
#define ADAINFER_ARM64 1
#if defined(__ARM_FEATURE_DOTPROD)
#define ADAINFER_TARGET_DOTPROD  // nothing to add to the command line
#else
#define ADAINFER_TARGET_DOTPROD gnu::target("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#else
#define ADAINFER_ARM64 0
#endif

namespace adainfer::inline v0 {

/// Instruction sets; which of them a machine has, say cpu_levels() and has_level().
enum class CpuLevel : std::uint8_t {
    Portable,  ///< what the compiler was told
    Neon,      ///< 64-bit Arm: NEON with the dot products of Armv8.2 (FEAT_DotProd)
    Avx2,      ///< x86-64: and FMA, F16C
    Avx512,    ///< x86-64: F, BW, DQ, VL, VNNI
    Amx        ///< x86-64: all that AVX-512 and bfloat16 need, and tiles of bfloat16, which the system must grant
};

[[nodiscard]] constexpr std::string_view to_string(CpuLevel level) noexcept {
    switch (level) {
        case CpuLevel::Portable: return "portable";
        case CpuLevel::Neon: return "neon";
        case CpuLevel::Avx2: return "avx2";
        case CpuLevel::Avx512: return "avx512";
        case CpuLevel::Amx: return "amx";
    }
    return "unknown";
}

/// True where the machine multiplies pairs of bfloat16: AVX512_BF16, and VBMI for packing them.
[[nodiscard]] inline bool has_bfloat16() noexcept {
#if ADAINFER_X86
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

/// What this machine has. Found once: it is asked for with every row of keys and values.
[[nodiscard]] inline CpuLevel best_cpu_level() noexcept {
    static const CpuLevel best = [] {
#if ADAINFER_X86
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
        if (!avx2) return CpuLevel::Portable;
        const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512vnni");
        if (!avx512) return CpuLevel::Avx2;
        return has_bfloat16() && detail::may_use_amx() ? CpuLevel::Amx : CpuLevel::Avx512;
#elif defined(__ARM_FEATURE_DOTPROD) && ADAINFER_ARM64
        return CpuLevel::Neon;
#elif defined(__linux__) && ADAINFER_ARM64
        return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0 ? CpuLevel::Neon : CpuLevel::Portable;
#else
        return CpuLevel::Portable;
#endif
    }();
    return best;
}

/// The levels that this machine has, the best one last.
[[nodiscard]] inline std::span<const CpuLevel> cpu_levels() noexcept {
#if ADAINFER_X86
    static constexpr std::array levels{CpuLevel::Portable, CpuLevel::Avx2, CpuLevel::Avx512, CpuLevel::Amx};
#else
    static constexpr std::array levels{CpuLevel::Portable, CpuLevel::Neon};
#endif
    const auto best = std::find(levels.begin(), levels.end(), best_cpu_level());
    return std::span(levels).first(static_cast<std::size_t>(best - levels.begin()) + 1);
}

[[nodiscard]] inline bool has_level(CpuLevel level) noexcept {
    const std::span<const CpuLevel> levels = cpu_levels();
    return std::find(levels.begin(), levels.end(), level) != levels.end();
}

/// True on a processor of AMD's.
[[nodiscard]] inline bool is_amd() noexcept {
#if ADAINFER_X86
    __builtin_cpu_init();
    return __builtin_cpu_is("amd");
#else
    return false;
#endif
}

/// True where AVX-512's products of bfloat16 are faster than those of floats. AMD (Zen 4 and later) starts as many of these
/// instructions a cycle as of float ones, each with twice the products. Intel takes longer for them than for float ones (Sapphire
/// Rapids, measured on one core: 110 GFLOP/s where floats do 215), its fast unit for bfloat16 being AMX.
[[nodiscard]] inline bool has_fast_bfloat16() noexcept { return has_bfloat16() && is_amd(); }

/// What this machine has, or the level that the environment variable ADAINFER_CPU names: portable, avx2, avx512, amx or neon.
/// Throws InvalidArgument for a name that is no level of this machine.
[[nodiscard]] inline CpuLevel cpu_level() {
    const char* const forced = std::getenv("ADAINFER_CPU");
    if (forced == nullptr || *forced == '\0') return best_cpu_level();
    std::string names;
    for (const CpuLevel level : cpu_levels()) {
        if (to_string(level) == forced) return level;
        names.append(names.empty() ? "" : ", ").append(to_string(level));
    }
    fail(ErrorCode::InvalidArgument, "ADAINFER_CPU is '", forced, "'; levels of this machine: ", names);
}

}  // namespace adainfer::inline v0
