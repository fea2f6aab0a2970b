#pragma once

#include <cstddef>

#include "adainfer/kernels/cpu.hpp"

// How what is computed of a few tokens asks for the weights, keys and values that it reads: what is fastest differs by maker, as
// measured.

namespace adainfer::inline v0::detail {

/// Where the weights lie that are asked for, and for which cache.
struct WeightFetch {
    std::size_t ahead;  ///< bytes behind what is read next
    bool first_cache;   ///< else the second
};

#if ADAINFER_X86

/// Of repacked weights, which lie one behind the other. Intel (Sapphire Rapids): 8 KB ahead into the second cache, since the first
/// waits for few lines at once. AMD: into the first cache, Zen 3, which has no AVX-512, 2 to 6 KB ahead and Zen 5 4 to 8 KB; with
/// Zen 4 all lines of the next few products at once, where far ahead into the second cache was slower. Found once: it is asked for
/// with every panel.
[[nodiscard]] inline WeightFetch lane_fetch() noexcept {
    static const WeightFetch fetch = [] {
        if (!is_amd()) return WeightFetch{8192, false};
        if (best_cpu_level() == CpuLevel::Avx2) return WeightFetch{3072, true};
        return WeightFetch{__builtin_cpu_is("amdfam19h") ? 0 : std::size_t{6144}, true};  // of that family only Zen 4 gets here
    }();
    return fetch;
}

/// Rows of floats that are read side by side, at most.
inline constexpr std::size_t most_float_rows = 4;

/// How rows of floats are read, which lie one behind the other.
struct FloatRowReading {
    std::size_t at_once;
    WeightFetch fetch;
};

/// Of rows of so many bytes. Intel's memory answers more when it is asked in several places, AMD's Zen 5 when rows are read one
/// after the other: on one thread 38 GB/s where four at a time get 28. Zen 4 is taken to be like it: llama.cpp, which reads in
/// order, got 27 GB/s there where four rows at a time got 22.
[[nodiscard]] inline FloatRowReading float_row_reading(std::size_t row_bytes) noexcept {
    static const bool in_order = is_amd() && best_cpu_level() != CpuLevel::Avx2;
    if (in_order) return {1, {4096, true}};
    return {most_float_rows, {most_float_rows * row_bytes, false}};
}

#endif

/// Of rows of keys or values, 16 rows ahead, to where weights go: of rows read in turn only the beginnings are foreseen.
[[nodiscard]] inline WeightFetch kv_row_fetch(std::size_t row_bytes) noexcept {
#if ADAINFER_X86
    return {16 * row_bytes, lane_fetch().first_cache};
#else
    return {16 * row_bytes, true};
#endif
}

/// Asks for `bytes` from `at` on, as `fetch` says.
template <std::size_t bytes>
[[gnu::always_inline]] inline void fetch_weights(const std::byte* at, WeightFetch fetch) noexcept {
    if (fetch.first_cache) {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + fetch.ahead + i, 0, 3);
    } else {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + fetch.ahead + i, 0, 2);
    }
}

/// The same of a number known at run time.
[[gnu::always_inline]] inline void fetch_weights(const std::byte* at, std::size_t bytes, WeightFetch fetch) noexcept {
    if (fetch.first_cache) {
        for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + fetch.ahead + i, 0, 3);
    } else {
        for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + fetch.ahead + i, 0, 2);
    }
}

}  // namespace adainfer::inline v0::detail
