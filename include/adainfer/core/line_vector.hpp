#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace adainfer::inline v0 {

/// Memory that begins with a cache line: a vector that is loaded or stored at a multiple of its size lies in one line.
template <class T>
struct LineAllocator {
    using value_type = T;

    LineAllocator() = default;
    template <class U>
    constexpr explicit(false) LineAllocator(const LineAllocator<U>&) noexcept {}

    [[nodiscard]] T* allocate(std::size_t n) {
        if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_array_new_length();
        return static_cast<T*>(::operator new(n * sizeof(T), line));
    }
    void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, line); }

    template <class U>
    friend constexpr bool operator==(const LineAllocator&, const LineAllocator<U>&) noexcept {
        return true;
    }

  private:
    static constexpr std::align_val_t line{64};
};

template <class T>
using LineVector = std::vector<T, LineAllocator<T>>;

}  // namespace adainfer::inline v0
