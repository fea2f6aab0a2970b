#pragma once

#include <cstddef>
#include <string_view>

#include "adainfer/kernels/cpu.hpp"

namespace cli {

/// What this machine does at best, measured: the yardsticks of `adainfer bench`.
struct Machine {
    std::size_t threads = 0;
    adainfer::CpuLevel level = adainfer::CpuLevel::Portable;
    double read_bytes_per_second = 0;     ///< of memory far larger than the caches, read in order
    double float_multiply_adds = 0;       ///< a second, from the first-level cache
    double bfloat16_multiply_adds = 0;    ///< a second, likewise; 0 where the machine or the level has none
    double int8_multiply_adds = 0;        ///< a second, likewise; 0 where the level has no integer kernel for tiles

    /// Of products called so by SimdBackend.
    [[nodiscard]] double multiply_adds(std::string_view products) const noexcept {
        if (products == "bfloat16") return bfloat16_multiply_adds;
        return products == "bits8" ? int8_multiply_adds : float_multiply_adds;
    }
};

/// Takes about a second.
[[nodiscard]] Machine measure_machine(std::size_t threads);

}  // namespace cli
