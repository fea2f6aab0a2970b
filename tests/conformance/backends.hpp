#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "adainfer/backend/simd.hpp"
#include "adainfer/kernels/cpu.hpp"

// The backends that conformance tests run on, and numbers to run them with.

using Sizes = std::initializer_list<std::size_t>;

template <class Backend>
Backend make(std::size_t threads = 1) {
    if constexpr (std::constructible_from<Backend, std::size_t>) return Backend(threads);
    else return Backend{};
}

/// SimdBackend at a level, or at the best that this machine has.
template <adainfer::CpuLevel asked, adainfer::SimdBackend::Products wanted = adainfer::SimdBackend::Products::Exact>
struct SimdAt : adainfer::SimdBackend {
    explicit SimdAt(std::size_t threads = 1)
        : SimdBackend(threads, adainfer::has_level(asked) ? asked : adainfer::best_cpu_level(), wanted) {}
};
using SimdPortable = SimdAt<adainfer::CpuLevel::Portable>;
#if ADAINFER_ARM64
using SimdNeon = SimdAt<adainfer::CpuLevel::Neon>;
#define SIMD_LEVELS SimdPortable, SimdNeon
#define SIMD_BACKENDS SIMD_LEVELS
#else
using SimdAvx2 = SimdAt<adainfer::CpuLevel::Avx2>;
using SimdAvx512 = SimdAt<adainfer::CpuLevel::Avx512>;
// Products of many tokens that round, where this machine has them.
using SimdBfloat16 = SimdAt<adainfer::CpuLevel::Amx, adainfer::SimdBackend::Products::Bfloat16>;
using SimdBits12Avx2 = SimdAt<adainfer::CpuLevel::Avx2, adainfer::SimdBackend::Products::Bits12>;
using SimdBits12 = SimdAt<adainfer::CpuLevel::Avx512, adainfer::SimdBackend::Products::Bits12>;
using SimdBits8 = SimdAt<adainfer::CpuLevel::Avx512, adainfer::SimdBackend::Products::Bits8>;
#define SIMD_LEVELS SimdPortable, SimdAvx2, SimdAvx512
#define SIMD_BACKENDS SIMD_LEVELS, SimdBfloat16, SimdBits12Avx2, SimdBits12, SimdBits8
#endif

/// False, with a message, on a machine without the level's instructions.
inline bool runs(adainfer::CpuLevel level, const std::string& instructions) {
    if (adainfer::has_level(level)) return true;
    MESSAGE("skipped: this machine has no " << instructions);
    return false;
}

/// The nearest of the numbers with eight significant bits, the even one of two.
inline float to_bfloat16(float value) {
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}
    std::uint32_t bits() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<std::uint32_t>(state_ >> 32U);
    }
    float real() { return static_cast<float>(bits()) * 0x1p-31F - 1.0F; }  // [-1, 1)
    std::vector<float> reals(std::size_t n, float spread = 1.0F) {
        std::vector<float> values(n);
        for (float& value : values) value = spread * real();
        return values;
    }

  private:
    std::uint64_t state_;
};
