#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/tensor/dtype.hpp"

namespace adainfer::inline v0 {

/// Types of a metadata value; the numbers are those of the file format.
enum class GgufValueType : std::uint32_t {
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
};

struct GgufValueTypeInfo {
    std::string_view name;
    std::size_t bytes;  ///< of one value; 0 for strings and arrays, whose size is in the file
};

/// Name and size of a value type, or nothing for a number that is not one.
[[nodiscard]] constexpr std::optional<GgufValueTypeInfo> info(GgufValueType type) noexcept {
    switch (type) {
        case GgufValueType::UInt8: return GgufValueTypeInfo{"uint8", 1};
        case GgufValueType::Int8: return GgufValueTypeInfo{"int8", 1};
        case GgufValueType::UInt16: return GgufValueTypeInfo{"uint16", 2};
        case GgufValueType::Int16: return GgufValueTypeInfo{"int16", 2};
        case GgufValueType::UInt32: return GgufValueTypeInfo{"uint32", 4};
        case GgufValueType::Int32: return GgufValueTypeInfo{"int32", 4};
        case GgufValueType::Float32: return GgufValueTypeInfo{"float32", 4};
        case GgufValueType::Bool: return GgufValueTypeInfo{"bool", 1};
        case GgufValueType::String: return GgufValueTypeInfo{"string", 0};
        case GgufValueType::Array: return GgufValueTypeInfo{"array", 0};
        case GgufValueType::UInt64: return GgufValueTypeInfo{"uint64", 8};
        case GgufValueType::Int64: return GgufValueTypeInfo{"int64", 8};
        case GgufValueType::Float64: return GgufValueTypeInfo{"float64", 8};
    }
    return std::nullopt;
}

/// A tensor storage type of GGUF files, also those that this library cannot compute with: their sizes are needed to
/// check a file, and their names to say what is not supported.
struct GgmlTypeInfo {
    std::uint32_t id;
    std::string_view name;
    std::uint32_t block_size;   ///< elements a block
    std::uint32_t block_bytes;  ///< bytes a block
    std::optional<DType> dtype;
};

namespace detail::gguf {

inline constexpr std::array ggml_types{
    GgmlTypeInfo{0, "f32", 1, 4, DType::F32},
    GgmlTypeInfo{1, "f16", 1, 2, DType::F16},
    GgmlTypeInfo{2, "q4_0", 32, 18, DType::Q4_0},
    GgmlTypeInfo{3, "q4_1", 32, 20, DType::Q4_1},
    GgmlTypeInfo{6, "q5_0", 32, 22, DType::Q5_0},
    GgmlTypeInfo{7, "q5_1", 32, 24, DType::Q5_1},
    GgmlTypeInfo{8, "q8_0", 32, 34, DType::Q8_0},
    GgmlTypeInfo{9, "q8_1", 32, 36, std::nullopt},
    GgmlTypeInfo{10, "q2_k", 256, 84, std::nullopt},
    GgmlTypeInfo{11, "q3_k", 256, 110, std::nullopt},
    GgmlTypeInfo{12, "q4_k", 256, 144, DType::Q4_K},
    GgmlTypeInfo{13, "q5_k", 256, 176, DType::Q5_K},
    GgmlTypeInfo{14, "q6_k", 256, 210, DType::Q6_K},
    GgmlTypeInfo{15, "q8_k", 256, 292, std::nullopt},
    GgmlTypeInfo{16, "iq2_xxs", 256, 66, std::nullopt},
    GgmlTypeInfo{17, "iq2_xs", 256, 74, std::nullopt},
    GgmlTypeInfo{18, "iq3_xxs", 256, 98, std::nullopt},
    GgmlTypeInfo{19, "iq1_s", 256, 50, std::nullopt},
    GgmlTypeInfo{20, "iq4_nl", 32, 18, std::nullopt},
    GgmlTypeInfo{21, "iq3_s", 256, 110, std::nullopt},
    GgmlTypeInfo{22, "iq2_s", 256, 82, std::nullopt},
    GgmlTypeInfo{23, "iq4_xs", 256, 136, std::nullopt},
    GgmlTypeInfo{24, "i8", 1, 1, std::nullopt},
    GgmlTypeInfo{25, "i16", 1, 2, std::nullopt},
    GgmlTypeInfo{26, "i32", 1, 4, std::nullopt},
    GgmlTypeInfo{27, "i64", 1, 8, std::nullopt},
    GgmlTypeInfo{28, "f64", 1, 8, std::nullopt},
    GgmlTypeInfo{29, "iq1_m", 256, 56, std::nullopt},
    GgmlTypeInfo{30, "bf16", 1, 2, DType::BF16},
    GgmlTypeInfo{34, "tq1_0", 256, 54, std::nullopt},
    GgmlTypeInfo{35, "tq2_0", 256, 66, std::nullopt},
    GgmlTypeInfo{39, "mxfp4", 32, 17, std::nullopt},
    GgmlTypeInfo{40, "nvfp4", 64, 36, std::nullopt},
    GgmlTypeInfo{41, "q1_0", 128, 18, std::nullopt},
};

/// The sizes in the two tables must agree.
[[nodiscard]] constexpr bool ggml_types_match_dtypes() noexcept {
    for (const GgmlTypeInfo& type : ggml_types)
        if (type.dtype && (info(*type.dtype).name != type.name || info(*type.dtype).block_size != type.block_size ||
                           info(*type.dtype).block_bytes != type.block_bytes))
            return false;
    return true;
}
static_assert(ggml_types_match_dtypes());

}  // namespace detail::gguf

/// The type with this number in a file, or null: numbers of removed types and of types newer than this table.
[[nodiscard]] constexpr const GgmlTypeInfo* find_ggml_type(std::uint32_t id) noexcept {
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types)
        if (type.id == id) return &type;
    return nullptr;
}

/// The number of a storage type in files.
[[nodiscard]] constexpr std::uint32_t ggml_type_id(DType dtype) noexcept {
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types)
        if (type.dtype == dtype) return type.id;
    return ~0U;  // not reached: the table has every DType
}

/// The names of the storage types that this library computes with, separated by ", ".
[[nodiscard]] inline std::string supported_ggml_types() {
    std::string names;
    for (const GgmlTypeInfo& type : detail::gguf::ggml_types) {
        if (!type.dtype) continue;
        if (!names.empty()) names += ", ";
        names += type.name;
    }
    return names;
}

}  // namespace adainfer::inline v0
