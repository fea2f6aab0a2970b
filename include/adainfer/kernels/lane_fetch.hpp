#pragma once

#include <cstddef>

#include "adainfer/kernels/cpu.hpp"

// How products of a few tokens ask for the weights that they read.

#if ADAINFER_X86

namespace adainfer::inline v0::detail {

/// Bytes ahead of what is read that is asked for. Intel (Sapphire Rapids): 8 KB, into the second cache, since the first waits for
/// few lines at once. AMD (Zen 4): none, because its own prefetchers bring a panel faster when nothing asks for lines far ahead
/// of them; asking for all lines of the next few products at once, into the first cache, is what helps there.
[[nodiscard]] inline std::size_t lane_fetch_distance() noexcept { return is_amd() ? 0 : 8192; }

/// Asks for `bytes` from `at` + `distance` on.
template <std::size_t bytes>
[[gnu::always_inline]] inline void fetch_lanes(const std::byte* at, std::size_t distance) noexcept {
    if (distance == 0) {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) _mm_prefetch(at + i, _MM_HINT_T0);
    } else {
#pragma GCC unroll 17
        for (std::size_t i = 0; i < bytes; i += 64) _mm_prefetch(at + distance + i, _MM_HINT_T1);
    }
}

}  // namespace adainfer::inline v0::detail

#endif
