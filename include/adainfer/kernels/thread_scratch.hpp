#pragma once

#include <cstddef>
#include <span>

#include "adainfer/core/line_vector.hpp"

namespace adainfer::inline v0 {

/// At least n floats, from a cache line on, that belong to the calling thread until its next call with the same Slot. Grows, never
/// shrinks: a loop that asks for the same size again allocates nothing.
template <class Slot>
[[nodiscard]] std::span<float> thread_scratch(std::size_t n) {
    thread_local LineVector<float> buffer;
    if (buffer.size() < n) buffer.resize(n);
    return {buffer.data(), n};
}

}  // namespace adainfer::inline v0
