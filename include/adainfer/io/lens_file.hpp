#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/lens_matrix.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/identity.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/safetensors.hpp"
#include "adainfer/tensor/half.hpp"

// A linear lens as a safetensors file: for each map the tensors "lens.<layer>.matrix" [in, out] and "lens.<layer>.bias" [out],
// F16. In the 8-bit form the matrix is I8 and "lens.<layer>.scale" [in], F16, has what each of its rows is multiplied with.
// A map loaded from it keeps its 8 bits in memory; the other form becomes floats.

namespace adainfer::inline v0 {

/// How the matrices are stored.
enum class LensPrecision {
    F16,
    I8,  ///< half the size: whole numbers from -127 to 127 and a scale a row
};

/// What a lens file says besides the maps.
struct LensInfo {
    std::map<std::string, std::string> training;  ///< how it was fitted, free text by key
};

/// A lens as loaded, with what a policy file needs to name it.
struct LensFile {
    LinearLens lens;
    LensInfo info;
    std::string hash;  ///< lens_hash() of the file
};

/// Names the content of a lens file: 16 hexadecimal digits, for telling files apart, not for security.
[[nodiscard]] inline std::string lens_hash(std::span<const std::byte> bytes) { return Fingerprint().add(bytes).text(); }

/// The same for a file. Throws Error (Io).
[[nodiscard]] inline std::string lens_hash(const std::filesystem::path& path) {
    return lens_hash(FileBytes::open(path).bytes());
}

namespace detail::lens {

inline constexpr std::string_view format = "adainfer-lens-1";
inline constexpr std::string_view format_family = "adainfer-lens-";
inline constexpr std::string_view training_prefix = "training.";
inline constexpr std::size_t max_layer = 100'000;  // bounds the table of layers

using Halves = std::vector<std::uint16_t>;

/// Throws NotFinite where a number is outside the range of F16.
[[nodiscard]] inline Halves to_halves(std::span<const float> values, std::size_t layer) {
    Halves halves;
    halves.reserve(values.size());
    for (const float value : values) {
        halves.push_back(f32_to_f16(value));
        if (!std::isfinite(f16_to_f32(halves.back()))) {
            fail(ErrorCode::NotFinite, "linear lens: the map of layer ", layer, " holds ", value,
                 ", which F16 cannot express (at most 65504)");
        }
    }
    return halves;
}

/// matrix [rows, cols] as whole numbers times a scale a row.
struct Quantized {
    std::vector<std::int8_t> values;  // [rows, cols]
    Halves scales;                    // [rows]
};

[[nodiscard]] inline Quantized quantize(std::span<const float> matrix, std::size_t cols, std::size_t layer) {
    Quantized result;
    result.values.reserve(matrix.size());
    for (std::size_t begin = 0; begin < matrix.size(); begin += cols) {
        const std::span<const float> row = matrix.subspan(begin, cols);
        float largest = 0;
        for (const float value : row) largest = (std::max)(largest, std::abs(value));
        const float wanted = largest / 127;
        std::uint16_t bits = to_halves({&wanted, 1}, layer).front();
        if (bits == 0 && largest > 0) bits = 1;  // the smallest step there is
        const float scale = f16_to_f32(bits);
        for (const float value : row) {
            const float steps = scale > 0 ? std::round(value / scale) : 0;
            result.values.push_back(static_cast<std::int8_t>(std::clamp(steps, -127.0F, 127.0F)));
        }
        result.scales.push_back(bits);
    }
    return result;
}

/// The matrix [cols, cols] of a map as whole numbers: those that it has, or its floats quantized.
[[nodiscard]] inline Quantized to_quantized(const LensMatrix& map, std::span<const float> matrix, std::size_t cols,
                                            std::size_t layer) {
    const LensCodes* const codes = map.codes();
    return codes == nullptr ? quantize(matrix, cols, layer) : Quantized{codes->codes, to_halves(codes->row_scales, layer)};
}

/// The layer in "lens.<layer>.<part>", or nothing where the name is not of that form.
[[nodiscard]] inline std::optional<std::size_t> layer_of(std::string_view name) {
    constexpr std::string_view prefix = "lens.";
    if (!name.starts_with(prefix)) return std::nullopt;
    std::size_t layer = 0;
    const auto [rest, error] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), layer);
    if (error != std::errc{} || layer > max_layer) return std::nullopt;
    const std::string_view part(rest, static_cast<std::size_t>(name.data() + name.size() - rest));
    const bool known = part == ".matrix" || part == ".bias" || part == ".scale";
    return known && name == "lens." + std::to_string(layer) + std::string(part) ? std::optional(layer) : std::nullopt;
}

/// The tensor. Throws CorruptFile where it has another shape.
[[nodiscard]] inline const SafetensorsTensor& get(const SafetensorsFile& file, const std::string& name,
                                                  const std::vector<std::uint64_t>& shape) {
    const SafetensorsTensor& tensor = file.get(name);
    if (tensor.shape != shape) {
        const auto text = [](std::span<const std::uint64_t> extents) {
            std::string list;
            for (const std::uint64_t extent : extents) list += (list.empty() ? "" : ", ") + std::to_string(extent);
            return '[' + list + ']';
        };
        fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor '", name, "' is ", text(tensor.shape), ", expected ",
             text(shape));
    }
    return tensor;
}

[[nodiscard]] inline LinearLens::Map read_map(const SafetensorsFile& file, std::size_t layer, std::size_t hidden) {
    const std::string prefix = "lens." + std::to_string(layer);
    const std::uint64_t n = hidden;
    const SafetensorsTensor& matrix = get(file, prefix + ".matrix", {n, n});
    const auto floats = [&](const char* part) { return file.to_f32(get(file, prefix + part, {n})); };
    if (matrix.dtype == "I8") {
        LensCodes map;
        map.codes.resize(matrix.data.size());
        std::memcpy(map.codes.data(), matrix.data.data(), matrix.data.size());
        map.row_scales = floats(".scale");
        map.bias = floats(".bias");
        return {layer, std::move(map)};
    }
    if (file.find(prefix + ".scale") != nullptr) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor '", prefix, ".scale' belongs to an I8 matrix, this one is ",
             matrix.dtype);
    }
    std::vector<float> map = file.to_f32(matrix);
    const std::vector<float> bias = floats(".bias");
    map.insert(map.end(), bias.begin(), bias.end());
    return {layer, std::move(map)};
}

[[nodiscard]] inline LensFile read_file(const SafetensorsFile& file) {
    if (!file.metadata().contains("format") || !file.get_metadata("format").starts_with(format_family)) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': not a lens file: its metadata do not say format ", format);
    }
    if (file.get_metadata("format") != format) {
        fail(ErrorCode::Unsupported, "'", file.name(), "': format ", detail::quoted(file.get_metadata("format")),
             ", this version reads ", format);
    }
    const std::string& identity = file.get_metadata("model_identity");
    const std::string& width = file.get_metadata("hidden");
    std::size_t hidden = 0;
    const auto parsed = std::from_chars(width.data(), width.data() + width.size(), hidden);
    // A map has to fit the file, so a width beyond 2^24 cannot be true; below it, (hidden + 1) * hidden cannot overflow.
    if (parsed.ec != std::errc{} || parsed.ptr != width.data() + width.size() || hidden == 0 || hidden > (1U << 24U)) {
        fail(ErrorCode::CorruptFile, "'", file.name(), "': metadata 'hidden' must be the width of the model, found ",
             detail::quoted(width));
    }
    std::set<std::size_t> layers;
    for (const SafetensorsTensor& tensor : file.tensors()) {
        const auto layer = layer_of(tensor.name);
        if (!layer) {
            fail(ErrorCode::CorruptFile, "'", file.name(), "': tensor ", detail::quoted(tensor.name),
                 " is none of a lens (lens.<layer>.matrix, .bias or .scale, layer up to ", max_layer, ")");
        }
        layers.insert(*layer);
    }
    if (layers.empty()) fail(ErrorCode::CorruptFile, "'", file.name(), "': the lens has no maps");
    std::vector<LinearLens::Map> maps;
    for (const std::size_t layer : layers) maps.push_back(read_map(file, layer, hidden));
    LensFile result{{}, {}, lens_hash(file.bytes())};
    try {
        result.lens = LinearLens(identity, hidden, std::move(maps));
    } catch (const Error& error) {
        fail(error.code(), "'", file.name(), "': ", json::message_of(error));
    }
    for (const auto& [key, value] : file.metadata()) {
        if (key.starts_with(training_prefix)) result.info.training.emplace(key.substr(training_prefix.size()), value);
    }
    return result;
}

}  // namespace detail::lens

/// Writes a lens, whole or not at all. What is loaded again differs from `lens` by rounding: calibrate on the loaded one. A lens
/// that was loaded and is saved in the precision of its file gives the same tensors.
/// Throws Error: InvalidArgument (no maps), NotFinite (a number beyond 65504), Io.
inline void save_lens(const std::filesystem::path& path, const LinearLens& lens, const LensInfo& info = {},
                      LensPrecision precision = LensPrecision::F16) {
    if (lens.maps().empty()) fail(ErrorCode::InvalidArgument, "the linear lens has no maps to save");
    const std::size_t n = lens.hidden();
    std::vector<detail::lens::Halves> halves;
    std::vector<detail::lens::Quantized> quantized;
    halves.reserve(2 * lens.maps().size());  // the tensors point into both: they must not move
    quantized.reserve(lens.maps().size());
    std::vector<SafetensorsTensor> tensors;
    const auto add = [&](std::size_t layer, const char* part, std::string_view dtype, std::vector<std::uint64_t> shape,
                         const auto& values) {
        tensors.push_back(
            {"lens." + std::to_string(layer) + part, dtype, std::move(shape), std::as_bytes(std::span(values))});
    };
    for (const LinearLens::Map& map : lens.maps()) {
        if (map.layer > detail::lens::max_layer)
            fail(ErrorCode::InvalidArgument, "linear lens: layer ", map.layer, " is too large to save");
        const std::vector<float> floats = map.matrix.to_floats();
        const std::span<const float> all(floats);
        if (precision == LensPrecision::F16) {
            add(map.layer, ".matrix", "F16", {n, n},
                halves.emplace_back(detail::lens::to_halves(all.first(n * n), map.layer)));
        } else {
            const auto& q = quantized.emplace_back(detail::lens::to_quantized(map.matrix, all.first(n * n), n, map.layer));
            add(map.layer, ".matrix", "I8", {n, n}, q.values);
            add(map.layer, ".scale", "F16", {n}, q.scales);
        }
        add(map.layer, ".bias", "F16", {n}, halves.emplace_back(detail::lens::to_halves(all.last(n), map.layer)));
    }
    std::map<std::string, std::string> metadata{{"format", std::string(detail::lens::format)},
                                                {"model_identity", lens.model_identity()}, {"hidden", std::to_string(n)}};
    for (const auto& [key, value] : info.training) metadata.emplace(std::string(detail::lens::training_prefix) + key, value);
    write_safetensors(path, tensors, metadata);
}

/// Reads a lens with what the file says of it. That it fits a model is checked where it is used (LinearLens::check_model).
/// Throws Error: Io, CorruptFile (no lens file, metadata or tensors missing, wrong shapes), Unsupported (format version, type),
/// NotFinite.
[[nodiscard]] inline LensFile load_lens_file(const std::filesystem::path& path) {
    return detail::lens::read_file(SafetensorsFile::open(path));
}

/// The same from bytes; `name` is for messages.
[[nodiscard]] inline LensFile parse_lens_file(std::span<const std::byte> bytes, std::string name) {
    return detail::lens::read_file(SafetensorsFile::parse(bytes, std::move(name)));
}

/// The lens alone.
[[nodiscard]] inline LinearLens load_lens(const std::filesystem::path& path) { return load_lens_file(path).lens; }

}  // namespace adainfer::inline v0
