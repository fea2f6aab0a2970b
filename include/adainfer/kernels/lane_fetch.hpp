#pragma once

#include <cstddef>

#include "adainfer/kernels/cpu.hpp"

// How products of a few tokens ask for the weights that they read.

#if ADAINFER_X86

namespace adainfer::inline v0::detail {

/// Where the weights lie that are asked for, and for which cache.
struct LaneFetch {
    std::size_t ahead;  ///< bytes behind what is read next
    bool first_cache;   ///< else the second
};

/// As measured: Intel (Sapphire Rapids) 8 KB ahead into the second cache, since the first waits for few lines at once. AMD's Zen 4
/// all lines of the next few products at once, into the first cache: its own prefetchers bring a panel faster when nothing asks
/// for lines far ahead of them. Zen 3, which has no AVX-512, 2 to 6 KB ahead into the first cache. Found once: it is asked for with
/// every panel.
[[nodiscard]] inline LaneFetch lane_fetch() noexcept {
    static const LaneFetch fetch = [] {
        if (!is_amd()) return LaneFetch{8192, false};
        return LaneFetch{best_cpu_level() == CpuLevel::Avx2 ? std::size_t{3072} : 0, true};
    }();
    return fetch;
}

/// Asks for `bytes` from `at` on, as `fetch` says.
template <std::size_t bytes>
[[gnu::always_inline]] inline void fetch_lanes(const std::byte* at, LaneFetch fetch) noexcept {
    if (fetch.first_cache) {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) _mm_prefetch(at + fetch.ahead + i, _MM_HINT_T0);
    } else {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) _mm_prefetch(at + fetch.ahead + i, _MM_HINT_T1);
    }
}

}  // namespace adainfer::inline v0::detail

#endif
