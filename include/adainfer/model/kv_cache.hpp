#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/kv_rows.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/kv_store.hpp"
#include "adainfer/tensor/kv_type.hpp"

namespace adainfer::inline v0 {

/// Rows of one layer as attention reads them.
struct LayerKv {
    StoredKv rows;
    std::size_t first = 0;     ///< position of row 0
    std::size_t capacity = 0;  ///< rows between two heads
};

/// Keys and values of the positions seen so far. Memory is reserved at once and touched only as far as it is used.
///
/// Rows at or past length() are scratch: a forward pass writes them first and moves the length when it is done, so a
/// pass that is cancelled, or that only wanted a prediction, leaves nothing behind.
///
/// A windowed layer keeps what its window can still reach after a rewind of at most `rewindable` positions, or after the end of
/// a transaction (see hold()); earlier rows go when their room is needed.
class KvCache {
  public:
    enum class Part : std::size_t { Keys, Values };

    static constexpr std::size_t every_position = (std::numeric_limits<std::size_t>::max)();

    /// Throws InvalidArgument where the capacity is beyond any memory, and where the heads are no multiple of the type's blocks.
    KvCache(const ModelConfig& config, std::size_t capacity, KvType type = KvType::F32,
            std::size_t rewindable = every_position)
        : kv_heads_(config.kv_heads), head_dim_(config.head_dim), capacity_(capacity), type_(type) {
        const std::size_t block = info(dtype_of(type)).block_size;
        if (head_dim_ % block != 0) {
            fail(ErrorCode::InvalidArgument, "a ", to_string(type), " KV cache needs heads of a multiple of ", block,
                 " elements, this model's have ", head_dim_);
        }
        std::size_t room = capacity;
        if (config.window != 0 && rewindable < capacity && config.window < capacity - rewindable) {
            reach_ = config.window - 1;
            rewindable_ = rewindable;
            // Spare rows, so that kept ones move once in as many steps, not at every step.
            room = (std::min)(capacity, config.window + rewindable + (std::max)(fewest_spare, (config.window + rewindable) / 2));
        }
        std::size_t counts[2] = {0, 0};
        for (std::size_t layer = 0; layer < config.layers; ++layer) {
            const bool slides = room < capacity && config.window_of(layer) != 0;
            places_.push_back({slides, counts[slides]++});
        }
        whole_ = KvStore(counts[0] * 2 * kv_heads_, stride(), capacity);
        sliding_ = KvStore(counts[1] * 2 * kv_heads_, stride(), counts[1] == 0 ? 0 : room);
    }

    [[nodiscard]] std::size_t length() const noexcept { return length_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::size_t kv_heads() const noexcept { return kv_heads_; }
    [[nodiscard]] std::size_t head_dim() const noexcept { return head_dim_; }
    [[nodiscard]] KvType type() const noexcept { return type_; }

    /// Bytes of the rows in use.
    [[nodiscard]] std::size_t used_bytes() const noexcept { return whole_.bytes(length_) + sliding_.bytes(length_); }

    /// Bytes reserved.
    [[nodiscard]] std::size_t reserved_bytes() const noexcept {
        return whole_.bytes(whole_.first() + whole_.room()) + sliding_.bytes(sliding_.first() + sliding_.room());
    }

    /// Forgets the positions from `length` on, or takes rows that a pass has written. Precondition: length <= capacity(), and
    /// reaches(length).
    void set_length(std::size_t length) noexcept { length_ = length; }

    /// Whether the cache holds what the next token needs where `length` positions come before it.
    [[nodiscard]] bool reaches(std::size_t length) const noexcept {
        return length == 0 || sliding_.first() == 0 || length >= sliding_.first() + reach_;
    }

    /// Makes room for `tokens` positions after length(). Positions from `oldest` on may still run: the length, or before it the
    /// first one that was deferred. Where it throws (bad_alloc), nothing has changed.
    void make_room(std::size_t tokens, std::size_t oldest) {
        if (slides()) sliding_.make_room((std::min)(held_, needed_from(oldest)), length_, length_ + tokens);
    }

    /// From now on rows are kept so that set_length(length()) takes back what is appended. Returns what to hand to release().
    [[nodiscard]] std::size_t hold() noexcept {
        return std::exchange(held_, length_ == 0 ? held_ : (std::min)(held_, needed_from(length_)));
    }
    void release(std::size_t held) noexcept { held_ = held; }

    /// All rows of a layer.
    [[nodiscard]] LayerKv rows(std::size_t layer) const noexcept {
        const KvStore& store = store_of(layer);
        const std::size_t first = store.first();
        return {{type_, row(layer, Part::Keys, 0, first), row(layer, Part::Values, 0, first)}, first, store.room()};
    }

    /// Stores a row [kv_heads * head_dim]. Precondition: no magnitude in it exceeds largest_value(type()).
    void store(std::size_t layer, Part part, std::size_t position, std::span<const float> values) noexcept {
        for (std::size_t head = 0; head < kv_heads_; ++head) {
            pack_kv(type_, values.data() + head * head_dim_, head_dim_, row(layer, part, head, position));
        }
    }

    /// values [kv_heads * head_dim] = what is stored. Precondition: the layer still has the position.
    void load(std::size_t layer, Part part, std::size_t position, std::span<float> values) const noexcept {
        for (std::size_t head = 0; head < kv_heads_; ++head) {
            unpack_kv(type_, best_cpu_level(), row(layer, part, head, position), head_dim_, values.data() + head * head_dim_);
        }
    }

    /// A cache of the same capacity that holds the same positions.
    [[nodiscard]] KvCache clone() const { return KvCache(*this); }

    KvCache(KvCache&&) noexcept = default;
    KvCache& operator=(KvCache&&) noexcept = default;

  private:
    static constexpr std::size_t fewest_spare = 256;  // a chunk of a long prompt

    struct Place {
        bool slides;
        std::size_t index;  // among the layers of its store
    };

    KvCache(const KvCache& other)
        : kv_heads_(other.kv_heads_), head_dim_(other.head_dim_), capacity_(other.capacity_), length_(other.length_),
          reach_(other.reach_), rewindable_(other.rewindable_), type_(other.type_), places_(other.places_),
          whole_(other.whole_.clone(length_)), sliding_(other.sliding_.clone(length_)) {}

    [[nodiscard]] bool slides() const noexcept { return sliding_.room() != 0; }

    /// Bytes of a row of one head.
    [[nodiscard]] std::size_t stride() const noexcept { return row_bytes(type_, head_dim_); }

    [[nodiscard]] std::size_t needed_from(std::size_t position) const noexcept {
        const std::size_t before = reach_ + rewindable_;
        return position > before ? position - before : 0;
    }

    [[nodiscard]] const KvStore& store_of(std::size_t layer) const noexcept { return places_[layer].slides ? sliding_ : whole_; }
    [[nodiscard]] std::byte* row(std::size_t layer, Part part, std::size_t head, std::size_t position) const noexcept {
        return store_of(layer).row((2 * places_[layer].index + static_cast<std::size_t>(part)) * kv_heads_ + head, position);
    }

    std::size_t kv_heads_, head_dim_, capacity_, length_ = 0;
    std::size_t reach_ = 0;              ///< positions before its own that a token of a windowed layer sees
    std::size_t rewindable_ = 0;
    std::size_t held_ = every_position;  ///< rows of windowed layers from here on are kept
    KvType type_;
    std::vector<Place> places_;          ///< [layers]
    KvStore whole_, sliding_;            ///< of layers that keep every position, and of those that do not
};

}  // namespace adainfer::inline v0
