#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>

#include "adainfer/core/checked.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/model/config.hpp"

namespace adainfer::inline v0 {

/// Keys and values of the positions seen so far, f32, laid out [layer][K or V][kv_head][capacity][head_dim], so that a
/// head's keys are one matrix. Memory is reserved at once and touched only as far as it is used.
///
/// Rows at or past length() are scratch: a forward pass writes them first and moves the length when it is done, so a
/// pass that is cancelled, or that only wanted a prediction, leaves nothing behind.
class KvCache {
  public:
    KvCache(const ModelConfig& config, std::size_t capacity)
        : layers_(config.layers), kv_heads_(config.kv_heads), head_dim_(config.head_dim), capacity_(capacity) {
        const auto floats = checked_mul(layers_ * 2 * kv_heads_, head_dim_ * capacity_);
        if (!floats || *floats > (std::size_t{1} << 40U)) {
            fail(ErrorCode::InvalidArgument, "a KV cache of ", capacity, " positions is too large");
        }
        data_ = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(*floats));
    }

    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::size_t kv_heads() const noexcept { return kv_heads_; }
    [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }

    /// Bytes of the rows in use.
    [[nodiscard]] std::size_t used_bytes() const noexcept {
        return layers_ * 2 * kv_heads_ * head_dim_ * length_ * sizeof(float);
    }

    /// Forgets the positions from `length` on, or takes rows that a pass has written. Precondition: length <= capacity().
    void set_length(std::size_t length) noexcept { length_ = length; }

    [[nodiscard]] float* keys(std::size_t layer) noexcept { return data_.get() + 2 * layer * plane(); }
    [[nodiscard]] float* values(std::size_t layer) noexcept { return data_.get() + (2 * layer + 1) * plane(); }

    /// Copies `row` [kv_heads * head_dim] to the given position of keys(layer) or values(layer).
    void store(float* keys_or_values, std::size_t position, std::span<const float> row) const noexcept {
        for (std::size_t head = 0; head < kv_heads_; ++head) {
            std::copy_n(row.data() + head * head_dim_, head_dim_, keys_or_values + (head * capacity_ + position) * head_dim_);
        }
    }

    /// A cache of the same capacity that holds the same positions.
    [[nodiscard]] KvCache clone() const {
        KvCache copy(*this, capacity_);
        for (std::size_t head = 0; head < layers_ * 2 * kv_heads_; ++head) {
            const std::size_t offset = head * capacity_ * head_dim_;
            std::copy_n(data_.get() + offset, length_ * head_dim_, copy.data_.get() + offset);
        }
        copy.length_ = length_;
        return copy;
    }

  private:
    KvCache(const KvCache& like, std::size_t capacity)
        : layers_(like.layers_), kv_heads_(like.kv_heads_), head_dim_(like.head_dim_), capacity_(capacity),
          data_(std::make_unique_for_overwrite<float[]>(like.layers_ * 2 * like.plane())) {}

    [[nodiscard]] std::size_t plane() const noexcept { return kv_heads_ * capacity_ * head_dim_; }

    std::size_t layers_, kv_heads_, head_dim_, capacity_, length_ = 0;
    std::unique_ptr<float[]> data_;
};

}  // namespace adainfer::inline v0
