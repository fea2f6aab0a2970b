#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "adainfer/kernels/lane_layout.hpp"
#include "adainfer/kernels/weight_part.hpp"
#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0::detail {

/// Parts of weight rows in memory that will be wanted soon, as lines of the cache: the first of each row, then the second of each.
/// The hardware does not foresee them: packing reads some columns of many rows in turn.
template <std::size_t rows>
struct PartAhead {
    std::uintptr_t address = 0;
    std::size_t stride = 0;          ///< bytes from row to row
    std::size_t first = 0, end = 0;  ///< the lines that are left
    std::size_t each = 0;            ///< of them with every step of what is done meanwhile

    [[nodiscard]] const void* line(std::size_t i) const noexcept {
        return reinterpret_cast<const void*>(address + i % rows * stride + i / rows * 64);
    }

    /// Brings lines into the second cache that are left no more then. A few at a time: while all of a core's requests to memory are
    /// under way, what it reads from there waits too.
    [[gnu::always_inline]] void fetch(std::size_t lines) noexcept {
        for (const std::size_t last = (std::min)(first + lines, end); first < last; ++first) __builtin_prefetch(line(first), 0, 2);
    }
};

/// The lines of a part, to be fetched in `steps` steps; none unless all of its rows exist.
template <std::size_t rows>
[[nodiscard]] PartAhead<rows> ahead_of(const WeightPart& part, std::size_t steps) noexcept {
    if (part.count < rows) return {};
    PartAhead<rows> ahead;
    std::size_t bytes = row_bytes(part.weight.dtype, part.depth);  // of a row
    if (part.lanes == nullptr) {
        ahead.address = reinterpret_cast<std::uintptr_t>(part.row(0));
        ahead.stride = part.weight.row_bytes();
    } else {
        const LaneLayout layout = lane_layout(part.weight.dtype);  // repacked it is in one piece, here cut into as many
        bytes = part.depth / layout.columns * layout.bytes / rows;
        ahead.address = reinterpret_cast<std::uintptr_t>(part.blocks());
        ahead.stride = (bytes + 63) / 64 * 64;
    }
    ahead.end = (bytes + 63) / 64 * rows;
    ahead.each = (ahead.end + steps - 1) / steps;
    return ahead;
}

}  // namespace adainfer::inline v0::detail
