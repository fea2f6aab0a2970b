#pragma once

#include <cstddef>

#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0::detail {

/// Brings rows [first, first + count) into the cache, in order, as the hardware foresees it. It does not foresee parts of many rows
/// read in turn, which is what packing does.
inline void touch_rows(const WeightView& weight, std::size_t first, std::size_t count) noexcept {
    const std::byte* const from = weight.row(first);
    for (std::size_t i = 0; i < count * weight.row_bytes(); i += 64) {
        static_cast<void>(*static_cast<const volatile std::byte*>(from + i));
    }
}

}  // namespace adainfer::inline v0::detail
