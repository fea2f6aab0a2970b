#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "adainfer/io/gguf_types.hpp"
#include "adainfer/tensor/dtype.hpp"

/// Builds the bytes of a GGUF file.
///
///     GgufWriter writer;
///     writer.add("general.architecture", "llama").add("llama.block_count", std::uint32_t{2});
///     writer.add_tensor("output_norm.weight", {64}, norm);                        // floats
///     writer.add_tensor("output.weight", adainfer::DType::Q8_0, {64, 100}, bytes);
///     const std::vector<std::byte> file = writer.build();
///
/// A well-formed file unless asked for another: the public members override what would be written, and
/// entries[i] and tensors[i] can be changed after they were added.
class GgufWriter {
  public:
    struct Entry {
        std::string key;
        std::optional<std::uint64_t> key_length;  ///< written instead of key.size()
        std::uint32_t type = 0;
        std::vector<std::byte> payload;  ///< everything behind the type
    };

    struct Tensor {
        std::string name;
        std::optional<std::uint64_t> name_length;  ///< written instead of name.size()
        std::vector<std::uint64_t> dims;           ///< innermost first
        std::optional<std::uint32_t> dim_count;    ///< written instead of dims.size()
        std::uint32_t type = 0;
        std::optional<std::uint64_t> offset;  ///< written instead of where the data are
        std::vector<std::byte> data;
    };

    std::string magic = "GGUF";
    std::uint32_t version = 3;
    std::optional<std::uint64_t> tensor_count, entry_count;  ///< written instead of the true counts
    std::uint64_t layout_alignment = 32;                     ///< of the data; alignment() also writes the key
    bool pad_end = true;                                     ///< whether the last tensor is padded too
    std::vector<Entry> entries;
    std::vector<Tensor> tensors;

    /// A value: an integer of any fixed width, float, double, bool or a string.
    template <class T>
    GgufWriter& add(std::string_view key, const T& value) {
        std::vector<std::byte> payload;
        append_value(payload, value);
        return add_raw(key, type_of<T>(), std::move(payload));
    }

    /// An array of these.
    template <class T>
    GgufWriter& add(std::string_view key, const std::vector<T>& values) {
        std::vector<std::byte> payload;
        append(payload, type_of<T>());
        append(payload, std::uint64_t{values.size()});
        for (const auto& value : values) append_value(payload, T(value));
        return add_raw(key, 9, std::move(payload));
    }

    /// A value as bytes: `payload` is everything behind the type.
    GgufWriter& add_raw(std::string_view key, std::uint32_t type, std::vector<std::byte> payload) {
        entries.push_back({std::string(key), std::nullopt, type, std::move(payload)});
        return *this;
    }

    /// Adds general.alignment and lays the tensors out accordingly.
    GgufWriter& alignment(std::uint32_t bytes) {
        layout_alignment = bytes;
        return add("general.alignment", bytes);
    }

    /// A tensor of any type, as bytes; dims innermost first.
    GgufWriter& add_tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> dims,
                           std::vector<std::byte> data) {
        tensors.push_back({std::string(name), std::nullopt, std::move(dims), std::nullopt, type, std::nullopt,
                           std::move(data)});
        return *this;
    }

    GgufWriter& add_tensor(std::string_view name, adainfer::DType dtype, std::vector<std::uint64_t> dims,
                           std::vector<std::byte> data) {
        return add_tensor(name, adainfer::ggml_type_id(dtype), std::move(dims), std::move(data));
    }

    /// A float32 tensor.
    GgufWriter& add_tensor(std::string_view name, std::vector<std::uint64_t> dims, std::span<const float> values) {
        const auto bytes = std::as_bytes(values);
        return add_tensor(name, adainfer::DType::F32, std::move(dims), {bytes.begin(), bytes.end()});
    }

    /// Where the data section begins in the result of build().
    std::size_t data_start() const { return padded(header().size()); }

    std::vector<std::byte> build() const {
        std::vector<std::byte> file = header();
        if (tensors.empty()) return file;
        file.resize(padded(file.size()));
        for (std::size_t i = 0; i < tensors.size(); ++i) {
            file.insert(file.end(), tensors[i].data.begin(), tensors[i].data.end());
            const bool last = i + 1 == tensors.size();
            // All sections begin at a multiple of the alignment, so the file's size is padded like the data's.
            if (!last || pad_end) file.resize(padded(file.size()));
        }
        return file;
    }

    template <class T>
        requires std::is_arithmetic_v<T>
    static void append(std::vector<std::byte>& to, T number) {
        const auto* const bytes = reinterpret_cast<const std::byte*>(&number);
        to.insert(to.end(), bytes, bytes + sizeof number);
    }

    /// A length (`length`, or else the true one) and the text.
    static void append(std::vector<std::byte>& to, std::string_view text,
                       std::optional<std::uint64_t> length = std::nullopt) {
        append(to, length.value_or(text.size()));
        const auto bytes = std::as_bytes(std::span(text));
        to.insert(to.end(), bytes.begin(), bytes.end());
    }

  private:
    template <class T>
    static constexpr std::uint32_t type_of() {
        if constexpr (std::convertible_to<const T&, std::string_view>) return 8;
        else if constexpr (std::same_as<T, std::uint8_t>) return 0;
        else if constexpr (std::same_as<T, std::int8_t>) return 1;
        else if constexpr (std::same_as<T, std::uint16_t>) return 2;
        else if constexpr (std::same_as<T, std::int16_t>) return 3;
        else if constexpr (std::same_as<T, std::uint32_t>) return 4;
        else if constexpr (std::same_as<T, std::int32_t>) return 5;
        else if constexpr (std::same_as<T, float>) return 6;
        else if constexpr (std::same_as<T, bool>) return 7;
        else if constexpr (std::same_as<T, std::uint64_t>) return 10;
        else if constexpr (std::same_as<T, std::int64_t>) return 11;
        else if constexpr (std::same_as<T, double>) return 12;
        else static_assert(sizeof(T) == 0, "GGUF has no such type");
    }

    template <class T>
    static void append_value(std::vector<std::byte>& to, const T& value) {
        if constexpr (std::convertible_to<const T&, std::string_view>) append(to, std::string_view(value));
        else if constexpr (std::same_as<T, bool>) append(to, static_cast<std::uint8_t>(value));
        else append(to, value);
    }

    std::uint64_t padded(std::uint64_t size) const {
        return layout_alignment == 0 ? size : (size + layout_alignment - 1) / layout_alignment * layout_alignment;
    }

    std::vector<std::byte> header() const {
        std::vector<std::byte> out;
        for (const char c : magic) out.push_back(static_cast<std::byte>(c));
        append(out, version);
        append(out, tensor_count.value_or(tensors.size()));
        append(out, entry_count.value_or(entries.size()));
        for (const Entry& entry : entries) {
            append(out, entry.key, entry.key_length);
            append(out, entry.type);
            out.insert(out.end(), entry.payload.begin(), entry.payload.end());
        }
        std::uint64_t offset = 0;
        for (const Tensor& tensor : tensors) {
            append(out, tensor.name, tensor.name_length);
            append(out, tensor.dim_count.value_or(static_cast<std::uint32_t>(tensor.dims.size())));
            for (const std::uint64_t dim : tensor.dims) append(out, dim);
            append(out, tensor.type);
            append(out, tensor.offset.value_or(offset));
            offset = padded(offset + tensor.data.size());
        }
        return out;
    }
};
