#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace adainfer::inline v0 {

/// Takes bytes of a mapped file out of this process's memory: they are read from the file again where somebody touches them. Only
/// whole pages inside the range. Precondition: the bytes are those of a file, mapped and not written to; others would be lost.
/// Nothing happens on systems that cannot.
inline void release_pages([[maybe_unused]] std::span<const std::byte> bytes) noexcept {
#if defined(__linux__)
    const long size = ::sysconf(_SC_PAGESIZE);
    if (size <= 0) return;
    const auto page = static_cast<std::uintptr_t>(size);
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data()), end = begin + bytes.size();
    const std::uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
    if (first < last) static_cast<void>(::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED));
#endif
}

}  // namespace adainfer::inline v0
