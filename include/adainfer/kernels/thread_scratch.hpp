#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace adainfer::inline v0 {

/// At least n floats that belong to the calling thread until its next call with the same Slot. Grows, never shrinks:
/// a loop that asks for the same size again allocates nothing.
template <class Slot>
[[nodiscard]] std::span<float> thread_scratch(std::size_t n) {
    thread_local std::vector<float> buffer;
    if (buffer.size() < n) buffer.resize(n);
    return {buffer.data(), n};
}

}  // namespace adainfer::inline v0
