#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <utility>

#include "adainfer/core/checked.hpp"
#include "adainfer/core/error.hpp"

namespace adainfer::inline v0 {

/// Memory for the rows of some heads, laid out [heads][room()][stride bytes]: those of the positions from first() on, one after
/// the other, so that a head's rows are one matrix.
class KvStore {
  public:
    KvStore() = default;

    /// Throws InvalidArgument where the memory is beyond any machine's.
    KvStore(std::size_t heads, std::size_t stride, std::size_t room) : heads_(heads), stride_(stride), room_(room) {
        const auto bytes = checked_mul(heads * stride, room);
        if (!bytes || *bytes > (std::size_t{1} << 42U)) {
            fail(ErrorCode::InvalidArgument, "a KV cache of ", room, " positions is too large");
        }
        data_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(*bytes));
    }

    [[nodiscard]] std::size_t first() const noexcept { return first_; }
    [[nodiscard]] std::size_t room() const noexcept { return room_; }

    /// Bytes of the rows from first() to `length`.
    [[nodiscard]] std::size_t bytes(std::size_t length) const noexcept {
        return length > first_ ? heads_ * stride_ * (length - first_) : 0;
    }

    /// Precondition: first() <= position <= first() + room().
    [[nodiscard]] std::byte* row(std::size_t head, std::size_t position) const noexcept {
        return data_.get() + (head * room_ + position - first_) * stride_;
    }

    /// Makes room for the positions before `end`. Those from `keep` to `length` stay, earlier ones may go. Where it throws
    /// (bad_alloc), nothing has changed.
    void make_room(std::size_t keep, std::size_t length, std::size_t end) {
        if (length == 0) first_ = 0;
        if (end - first_ <= room_) return;
        keep = (std::max)((std::min)(keep, length), first_);
        if (end - keep > room_) {
            KvStore larger(heads_, stride_, (std::max)(end - keep, room_ + room_ / 2));
            larger.first_ = keep;
            larger.copy(*this, length);
            *this = std::move(larger);
            return;
        }
        for (std::size_t head = 0; head < heads_; ++head) {
            std::memmove(data_.get() + head * room_ * stride_, row(head, keep), (length - keep) * stride_);
        }
        first_ = keep;
    }

    /// A store with as much room and the same rows before `length`.
    [[nodiscard]] KvStore clone(std::size_t length) const {
        if (!data_) return {};
        KvStore result(heads_, stride_, room_);
        result.first_ = first_;
        result.copy(*this, length);
        return result;
    }

  private:
    /// Takes the rows from first() to `length`.
    void copy(const KvStore& from, std::size_t length) noexcept {
        if (length <= first_) return;
        const std::size_t bytes = (length - first_) * stride_;
        for (std::size_t head = 0; head < heads_; ++head) std::memcpy(row(head, first_), from.row(head, first_), bytes);
    }

    std::size_t heads_ = 0, stride_ = 0, room_ = 0, first_ = 0;
    std::unique_ptr<std::byte[]> data_;
};

}  // namespace adainfer::inline v0
