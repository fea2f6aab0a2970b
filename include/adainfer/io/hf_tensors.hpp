#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/hf_config.hpp"
#include "adainfer/io/hf_names.hpp"
#include "adainfer/io/hf_shards.hpp"
#include "adainfer/io/safetensors_types.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0::detail {

/// What WeightReader reads from: the tensors of a folder under the names of the table, stored plainly.
class HfTensors {
  public:
    HfTensors(const HfShards& shards, const HfConfig& config) : shards_(shards), config_(config) {
        const std::string_view embedding = config.family->hf_names.token_embedding;
        const std::string_view first = embedding.substr(0, embedding.find('.') + 1);
        bool bare = true;
        for (const SafetensorsTensor* const tensor : shards.tensors()) {
            bare = bare && !tensor->name.starts_with(first) && !tensor->name.starts_with("language_model.");
        }
        for (const SafetensorsTensor* const tensor : shards.tensors()) {
            if (is_ignored(tensor->name, config.model_type)) continue;
            const auto [at, fresh] = by_name_.emplace(table_name(tensor->name, config, bare), Entry{tensor});
            if (!fresh) {
                fail(ErrorCode::CorruptFile, describe(), ": the tensors ", detail::quoted(at->second.tensor->name), " and ",
                     detail::quoted(tensor->name), " are the same part of the model");
            }
        }
        if (config.tied) tie();
    }

    [[nodiscard]] std::string describe() const { return "'" + shards_.name() + "'"; }
    [[nodiscard]] bool has(const std::string& name) const { return by_name_.contains(name); }

    /// Throws CorruptFile (missing), ShapeMismatch, Unsupported (type).
    [[nodiscard]] WeightView matrix(const std::string& name, std::size_t rows, std::size_t cols) {
        const std::array<std::uint64_t, 2> shape{rows, cols};
        return {dtype_of(name), rows, cols, read(name, shape).data.data()};
    }

    /// Throws as matrix() does, and NotFinite.
    [[nodiscard]] std::vector<float> vector(const std::string& name, std::size_t size) {
        const std::array<std::uint64_t, 1> shape{size};
        const DType dtype = dtype_of(name);
        const std::byte* const data = read(name, shape).data.data();  // before memory of a size that nobody checked is asked for
        std::vector<float> values(size);
        dequantize_row(dtype, data, size, values.data());
        if (!all_finite(values.data(), size)) {
            fail(ErrorCode::NotFinite, describe(), ": tensor ", detail::quoted(name), " holds NaN or infinity");
        }
        return values;
    }

    /// GPT-2 stores [in, out]: a transposed copy.
    [[nodiscard]] WeightView projection(const std::string& name, std::size_t out, std::size_t in) {
        if (!config_.family->storage.transposed) return matrix(name, out, in);
        const WeightView stored = matrix(name, in, out);
        const std::size_t element = info(stored.dtype).block_bytes;
        std::byte* const copy = new_copy(stored.bytes());
        constexpr std::size_t tile = 32;  // both sides of a tile stay in the cache
        for (std::size_t first = 0; first < out; first += tile) {
            for (std::size_t i = 0; i < in; ++i) {
                for (std::size_t o = first; o < (std::min)(out, first + tile); ++o) {
                    std::memcpy(copy + (o * in + i) * element, stored.data + (i * out + o) * element, element);
                }
            }
        }
        return {stored.dtype, out, in, copy};
    }

    /// Gemma stores gain - 1.
    [[nodiscard]] std::vector<float> gain(const std::string& name, std::size_t size) {
        std::vector<float> values = vector(name, size);
        if (config_.family->storage.gain_less_one) {
            for (float& value : values) value += 1.0F;
        }
        return values;
    }

    /// Rows of q, then k, then v. GPT-NeoX has those three for one head after the other: a reordered copy.
    [[nodiscard]] LinearWeights qkv(LinearWeights stored) {
        if (!config_.family->storage.heads_interleaved) return stored;
        const WeightView& weight = stored.weight;
        const std::size_t heads = config_.model.heads, width = config_.model.head_dim, bytes = weight.row_bytes();
        std::byte* const copy = new_copy(weight.bytes());
        std::vector<float> bias(stored.bias.size());
        for (std::size_t head = 0; head < heads; ++head) {
            for (std::size_t part = 0; part < 3; ++part) {
                const std::size_t from = (head * 3 + part) * width, to = (part * heads + head) * width;
                std::memcpy(copy + to * bytes, weight.row(from), width * bytes);
                if (!bias.empty()) std::memcpy(&bias[to], &stored.bias[from], width * sizeof(float));
            }
        }
        return {{weight.dtype, weight.rows, weight.cols, copy}, std::move(bias)};
    }

    /// Throws Unsupported for the first tensor that nobody read: a model that needs it would be silently wrong.
    void require_all_read() const {
        for (const auto& [name, entry] : by_name_) {
            if (entry.read) continue;
            fail(ErrorCode::Unsupported, describe(), ": tensor ", detail::quoted(entry.tensor->name), " is not part of a ",
                 config_.model_type, " model of ", config_.model.layers, " layers as this library runs it");
        }
    }

    /// Keeps the files' bytes and the copies alive.
    [[nodiscard]] std::shared_ptr<const void> storage() {
        using Kept = std::pair<std::shared_ptr<const void>, std::vector<std::unique_ptr<std::byte[]>>>;
        return std::make_shared<const Kept>(shards_.storage(), std::move(copies_));
    }

  private:
    struct Entry {
        const SafetensorsTensor* tensor;
        bool read = false;
    };

    /// Of a head and an embedding that are tied a checkpoint may keep either, or both; both are one where they are equal.
    void tie() {
        const std::string embedding = std::string(config_.family->hf_names.token_embedding) + ".weight";
        const auto head = by_name_.find(std::string(config_.family->hf_names.head) + ".weight");
        if (head == by_name_.end()) return;
        const auto [kept, moved] = by_name_.emplace(embedding, head->second);
        const std::span<const std::byte> a = kept->second.tensor->data, b = head->second.tensor->data;
        const bool equal = kept->second.tensor->dtype == head->second.tensor->dtype &&
                           kept->second.tensor->shape == head->second.tensor->shape &&
                           std::equal(a.begin(), a.end(), b.begin(), b.end());
        if (moved || equal) by_name_.erase(head);
    }

    [[nodiscard]] Entry& entry(const std::string& name) {
        const auto found = by_name_.find(name);
        if (found == by_name_.end()) fail(ErrorCode::CorruptFile, describe(), ": tensor '", name, "' is missing");
        return found->second;
    }

    [[nodiscard]] const SafetensorsTensor& read(const std::string& name, std::span<const std::uint64_t> shape) {
        Entry& found = entry(name);
        const auto text = [](std::span<const std::uint64_t> sizes) {
            std::string list;
            for (const std::uint64_t size : sizes) list.append(list.empty() ? "" : ", ").append(std::to_string(size));
            return "[" + list + "]";
        };
        const SafetensorsTensor& tensor = *found.tensor;
        if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
            fail(ErrorCode::ShapeMismatch, describe(), ": tensor ", detail::quoted(tensor.name), " is ", text(tensor.shape),
                 ", expected ", text(shape));
        }
        found.read = true;
        return tensor;
    }

    [[nodiscard]] DType dtype_of(const std::string& name) {
        const SafetensorsTensor& tensor = *entry(name).tensor;
        if (tensor.dtype == "F32") return DType::F32;
        if (tensor.dtype == "F16") return DType::F16;
        if (tensor.dtype == "BF16") return DType::BF16;
        fail(ErrorCode::Unsupported, describe(), ": tensor ", detail::quoted(tensor.name), " is of type ", tensor.dtype,
             "; supported: F32, F16, BF16");
    }

    [[nodiscard]] std::byte* new_copy(std::size_t bytes) {
        copies_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
        return copies_.back().get();
    }

    const HfShards& shards_;
    const HfConfig& config_;
    std::map<std::string, Entry, std::less<>> by_name_;
    std::vector<std::unique_ptr<std::byte[]>> copies_;
};

}  // namespace adainfer::inline v0::detail
