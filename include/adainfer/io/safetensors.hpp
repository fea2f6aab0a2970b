#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/io/atomic_file.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/gguf_cursor.hpp"
#include "adainfer/io/safetensors_header.hpp"
#include "adainfer/io/safetensors_types.hpp"
#include "adainfer/tensor/half.hpp"

namespace adainfer::inline v0 {

/// A safetensors file. Everything that does not follow the format is refused when it is opened, as the official reader does,
/// and also what that lets pass though it is ambiguous: a key that stands twice. So the tensors lie one after the other and
/// cover the data section exactly.
///
/// Immutable; may be used from several threads. A copy shares the bytes.
class SafetensorsFile {
  public:
    /// Opens and checks a file. Throws Error: Io (it cannot be opened), CorruptFile, Unsupported (data type).
    [[nodiscard]] static SafetensorsFile open(const std::filesystem::path& path, FileAccess access = FileAccess::Map) {
        const auto file = std::make_shared<const FileBytes>(FileBytes::open(path, access));
        return parse(file->bytes(), path.string(), file);
    }

    /// Checks a file in memory. `name` is for messages; `storage` keeps the bytes alive (null: the caller does).
    /// Throws Error (CorruptFile, Unsupported).
    [[nodiscard]] static SafetensorsFile parse(std::span<const std::byte> bytes, std::string name,
                                               std::shared_ptr<const void> storage = nullptr) {
        SafetensorsFile file;
        file.bytes_ = bytes;
        file.storage_ = std::move(storage);
        detail::safetensors::Header header = detail::safetensors::read_header(bytes, name);
        file.tensors_ = std::move(header.tensors);
        file.by_name_ = std::move(header.by_name);
        file.metadata_ = std::move(header.metadata);
        file.name_ = std::move(name);
        return file;
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// The whole file.
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }
    /// Keeps the bytes alive.
    [[nodiscard]] const std::shared_ptr<const void>& storage() const noexcept { return storage_; }

    /// All tensors, in the order of their data.
    [[nodiscard]] std::span<const SafetensorsTensor> tensors() const noexcept { return tensors_; }

    /// A tensor, or null.
    [[nodiscard]] const SafetensorsTensor* find(std::string_view name) const noexcept {
        const auto at =
            std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [this](std::size_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
        return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
    }

    /// A tensor. Throws Error (CorruptFile) where there is none of that name.
    [[nodiscard]] const SafetensorsTensor& get(std::string_view name) const {
        const SafetensorsTensor* const tensor = find(name);
        if (tensor == nullptr) fail(ErrorCode::CorruptFile, "'", name_, "': no tensor ", detail::quoted(name));
        return *tensor;
    }

    /// The texts that come with the tensors.
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

    /// One of them. Throws Error (CorruptFile) where it is absent.
    [[nodiscard]] const std::string& get_metadata(const std::string& key) const {
        const auto found = metadata_.find(key);
        if (found == metadata_.end())
            fail(ErrorCode::CorruptFile, "'", name_, "': the metadata lack ", detail::quoted(key));
        return found->second;
    }

    /// The elements of a tensor of type F32, F16 or BF16 as floats. Throws Error (Unsupported) for other types.
    [[nodiscard]] std::vector<float> to_f32(const SafetensorsTensor& tensor) const {
        const std::byte* const data = tensor.data.data();
        const auto half = [data](std::size_t i) { return detail::gguf::load_number<std::uint16_t>(data + 2 * i); };
        std::vector<float> values;
        if (tensor.dtype == "F32") {
            values.resize(tensor.data.size() / 4);
            if (!values.empty()) std::memcpy(values.data(), data, tensor.data.size());
        } else if (tensor.dtype == "F16") {
            values.resize(tensor.data.size() / 2);
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = f16_to_f32(half(i));
        } else if (tensor.dtype == "BF16") {
            values.resize(tensor.data.size() / 2);
            for (std::size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_f32(half(i));
        } else {
            fail(ErrorCode::Unsupported, "'", name_, "': tensor ", detail::quoted(tensor.name), " is of type ",
                 tensor.dtype, "; only F32, F16 and BF16 are read as floats");
        }
        return values;
    }

  private:
    SafetensorsFile() = default;

    std::string name_;
    std::span<const std::byte> bytes_;
    std::shared_ptr<const void> storage_;
    std::vector<SafetensorsTensor> tensors_;
    std::vector<std::size_t> by_name_;  // indices into tensors_, names ascending
    std::map<std::string, std::string> metadata_;
};

namespace detail::safetensors {
struct Layout {
    std::string header;
    std::vector<std::size_t> order;
};

/// The bytes of a safetensors file up to the data, and the order in which the data of the tensors follow: large elements
/// first, then by name, so that every tensor is aligned to its elements and equal tensors give equal files.
/// Throws Error (InvalidArgument; Unsupported for the type).
[[nodiscard]] inline Layout lay_out(std::span<const SafetensorsTensor> tensors,
                                    const std::map<std::string, std::string>& metadata) {
    const auto text = [](const std::string& s) {
        if (!gguf::is_utf8(s)) fail(ErrorCode::InvalidArgument, "safetensors: the text ", detail::quoted(s), " is not UTF-8");
        return nlohmann::json(s).dump();
    };
    Layout layout;
    for (std::size_t i = 0; i < tensors.size(); ++i) layout.order.push_back(i);
    std::sort(layout.order.begin(), layout.order.end(), [&](std::size_t a, std::size_t b) {
        const std::size_t bits_a = dtype_bits(tensors[a].dtype), bits_b = dtype_bits(tensors[b].dtype);
        return bits_a != bits_b ? bits_a > bits_b : tensors[a].name < tensors[b].name;
    });
    std::string json = "{";
    if (!metadata.empty()) {
        json += "\"__metadata__\":{";
        for (const auto& [key, value] : metadata) json += (json.ends_with('{') ? "" : ",") + text(key) + ':' + text(value);
        json += '}';
    }
    std::uint64_t end = 0;
    std::vector<std::string_view> names;
    for (const std::size_t i : layout.order) {
        const SafetensorsTensor& tensor = tensors[i];
        if (tensor.name == "__metadata__")
            fail(ErrorCode::InvalidArgument, "safetensors: no tensor may have the name __metadata__");
        const auto bytes = data_bytes(tensor.dtype, tensor.shape);
        if (!bytes || *bytes != tensor.data.size()) {
            fail(ErrorCode::InvalidArgument, "safetensors: tensor ", detail::quoted(tensor.name), " has ", tensor.data.size(),
                 " bytes, which is not what its shape and type ", tensor.dtype, " take");
        }
        json.append(json.size() == 1 ? "" : ",").append(text(tensor.name));
        json.append(":{\"dtype\":\"").append(tensor.dtype).append("\",\"shape\":[");
        for (std::size_t d = 0; d < tensor.shape.size(); ++d) {
            json.append(d == 0 ? "" : ",").append(std::to_string(tensor.shape[d]));
        }
        json += "],\"data_offsets\":[" + std::to_string(end) + ',' + std::to_string(end + *bytes) + "]}";
        end += *bytes;
        names.push_back(tensor.name);
    }
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end())
        fail(ErrorCode::InvalidArgument, "safetensors: two tensors have the name ", detail::quoted(*twice));
    json += '}';
    json.resize((json.size() + 7) / 8 * 8, ' ');
    if (json.size() > max_header_bytes) {
        fail(ErrorCode::InvalidArgument, "safetensors: the header would take ", json.size(), " bytes, at most ",
             max_header_bytes, " are allowed");
    }
    const std::uint64_t size = json.size();
    std::array<char, sizeof size> length{};
    std::memcpy(length.data(), &size, sizeof size);
    layout.header.assign(length.begin(), length.end());
    layout.header += json;
    return layout;
}
}  // namespace detail::safetensors

/// Writes a file, whole or not at all. `dtype`, `shape` and `data` of every tensor must fit each other. Throws Error:
/// InvalidArgument (they do not, a name stands twice, a text is not UTF-8), Unsupported (type), Io.
inline void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
    const detail::safetensors::Layout layout = detail::safetensors::lay_out(tensors, metadata);
    std::vector<std::string_view> parts{layout.header};
    for (const std::size_t i : layout.order)
        parts.emplace_back(reinterpret_cast<const char*>(tensors[i].data.data()), tensors[i].data.size());
    write_file_atomically(path, parts);
}

}  // namespace adainfer::inline v0
