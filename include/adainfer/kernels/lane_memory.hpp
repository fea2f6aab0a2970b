#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace adainfer::inline v0 {

/// Memory for repacked weights, from large pieces: one weight stands behind the other, so that what is read ahead past the end of
/// one is the next, and the system can take large pages. A piece lives as long as anything in it. May be used from several
/// threads.
class LaneMemory {
  public:
    /// `bytes`, a multiple of 64, that begin with a cache line. Throws std::bad_alloc.
    [[nodiscard]] std::shared_ptr<std::byte> take(std::size_t bytes) {
        const std::scoped_lock lock(mutex_);
        if (bytes > left_) {
            if (bytes > next_ / 2) return new_piece(bytes);
            piece_ = new_piece(next_);
            from_ = piece_.get();
            left_ = next_;
            next_ = (std::min)(2 * next_, most);
        }
        std::byte* const begin = from_;
        from_ += bytes;
        left_ -= bytes;
        return {piece_, begin};
    }

  private:
    static constexpr std::size_t page = std::size_t{1} << 21U;  ///< a large one
    static constexpr std::size_t most = 32 * page;              ///< of a piece for several weights

    [[nodiscard]] static std::shared_ptr<std::byte> new_piece(std::size_t bytes) {
        std::shared_ptr<std::byte> piece(static_cast<std::byte*>(::operator new(bytes, std::align_val_t{page})),
                                         [](std::byte* p) { ::operator delete(p, std::align_val_t{page}); });
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        // A wish; not for what is less than a page, which would take all of one.
        if (bytes >= page) static_cast<void>(::madvise(piece.get(), bytes / page * page, MADV_HUGEPAGE));
#endif
        return piece;
    }

    std::mutex mutex_;
    std::shared_ptr<std::byte> piece_;
    std::byte* from_ = nullptr;
    std::size_t left_ = 0, next_ = 8 * page;
};

}  // namespace adainfer::inline v0
