#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "adainfer/adainfer.hpp"

// Weights of random numbers in any storage format, as many bytes as in a real file and quick to make.

namespace adainfer_benchmarks {

/// The scales of a quantised block, and what keeps its values near a standard deviation of 1 at scale 1.
struct BlockScales {
    std::size_t scale = 0;      ///< byte offset of the binary16 scale
    bool has_minimum = false;   ///< a binary16 minimum follows the scale
    float minimum = 0;          ///< that minimum, in units of the scale: moves the mean to about 0
    float deviation = 1;        ///< of the block's values at scale 1, its other bytes being random
};

inline BlockScales block_scales(adainfer::DType dtype) {
    using adainfer::DType;
    switch (dtype) {
        case DType::Q8_0: return {0, false, 0.0F, 73.9F};
        case DType::Q4_0: return {0, false, 0.0F, 4.6F};
        case DType::Q4_1: return {0, true, -7.5F, 4.6F};
        case DType::Q5_0: return {0, false, 0.0F, 9.2F};
        case DType::Q5_1: return {0, true, -15.5F, 9.2F};
        case DType::Q4_K: return {0, true, 7.5F, 250.0F};  // the k formats subtract it, times another 6 random bits
        case DType::Q5_K: return {0, true, 15.5F, 500.0F};
        case DType::Q6_K: return {208, false, 0.0F, 1370.0F};
        case DType::F32:
        case DType::F16:
        case DType::BF16: break;
    }
    throw std::logic_error("not a quantised format");
}

/// Random weights and the memory that they stand in.
class RandomWeights {
  public:
    /// A matrix [rows, cols] whose elements have a standard deviation of about `deviation`. Valid as long as storage().
    adainfer::WeightView matrix(adainfer::DType dtype, std::size_t rows, std::size_t cols, float deviation) {
        using adainfer::DType;
        const std::size_t row_bytes = adainfer::row_bytes(dtype, cols), size = rows * row_bytes;
        blocks_->push_back(std::make_unique_for_overwrite<std::byte[]>(size));
        std::byte* const bytes = blocks_->back().get();
        if (dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16) {
            for (std::size_t i = 0, element = row_bytes / cols; i < size; i += element) {
                const float value = (static_cast<float>(next() >> 40U) * 0x1p-23F - 1.0F) * deviation * std::sqrt(3.0F);
                const std::uint16_t half = adainfer::f32_to_f16(value);
                // The upper half of a little-endian float is a bfloat16.
                if (dtype == DType::F32) std::memcpy(bytes + i, &value, 4);
                if (dtype == DType::F16) std::memcpy(bytes + i, &half, 2);
                if (dtype == DType::BF16) std::memcpy(bytes + i, reinterpret_cast<const std::byte*>(&value) + 2, 2);
            }
        } else {
            fill(bytes, size);
            const BlockScales scales = block_scales(dtype);
            const float scale = deviation / scales.deviation;
            const std::uint16_t pair[2] = {adainfer::f32_to_f16(scale), adainfer::f32_to_f16(scale * scales.minimum)};
            const std::size_t block = adainfer::info(dtype).block_bytes;
            for (std::size_t i = 0; i < size; i += block) std::memcpy(bytes + i + scales.scale, pair, scales.has_minimum ? 4 : 2);
        }
        return {dtype, rows, cols, bytes};
    }

    [[nodiscard]] std::shared_ptr<const void> storage() const { return blocks_; }

  private:
    /// xorshift64*: eight random bytes.
    std::uint64_t next() {
        state_ ^= state_ >> 12U;
        state_ ^= state_ << 25U;
        state_ ^= state_ >> 27U;
        return state_ * 2685821657736338717U;
    }

    void fill(std::byte* bytes, std::size_t size) {
        for (std::size_t i = 0; i < size; i += 8) {
            const std::uint64_t eight = next();
            std::memcpy(bytes + i, &eight, size - i < 8 ? size - i : 8);
        }
    }

    using Blocks = std::vector<std::unique_ptr<std::byte[]>>;
    std::shared_ptr<Blocks> blocks_ = std::make_shared<Blocks>();
    std::uint64_t state_ = 0x9E3779B97F4A7C15U;
};

/// The counterpart of make_random_model in a storage format of choice.
inline adainfer::ModelWeights random_model(const adainfer::RandomModelOptions& options, adainfer::DType dtype) {
    if (dtype == adainfer::DType::F32) return adainfer::make_random_model(options);
    // Everything but the matrices comes from a model of the same layers with narrow matrices.
    adainfer::RandomModelOptions narrow = options;
    narrow.vocabulary = narrow.feed_forward = narrow.heads = narrow.kv_heads = 1;
    adainfer::ModelWeights model = adainfer::make_random_model(narrow);
    adainfer::ModelConfig& config = model.config;
    config.heads = options.heads;
    config.kv_heads = options.kv_heads;
    config.feed_forward = options.feed_forward;
    config.vocabulary = options.vocabulary;
    validate(config, "random model");

    RandomWeights random;
    const auto linear = [&](std::size_t out, std::size_t in, float gain = 1.0F) {
        return adainfer::LinearWeights{random.matrix(dtype, out, in, gain / std::sqrt(static_cast<float>(in))), {}};
    };
    model.token_embedding = random.matrix(dtype, config.vocabulary, config.hidden, 0.6F);
    for (adainfer::LayerWeights& layer : model.layers) {
        layer.q = linear(config.q_size(), config.hidden);
        layer.k = linear(config.kv_size(), config.hidden);
        layer.v = linear(config.kv_size(), config.hidden);
        layer.attention_output = linear(config.hidden, config.q_size());
        layer.gate = linear(config.feed_forward, config.hidden);
        layer.up = linear(config.feed_forward, config.hidden);
        layer.down = linear(config.hidden, config.feed_forward);
    }
    model.head = options.tied ? adainfer::LinearWeights{model.token_embedding, {}}
                              : linear(config.vocabulary, config.hidden, 4.0F);  // the gain of make_random_model
    model.storage = random.storage();
    return model;
}

}  // namespace adainfer_benchmarks
