#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/io/gguf_cursor.hpp"
#include "adainfer/io/gguf_types.hpp"

namespace adainfer::inline v0 {

/// A metadata value: its type and where its bytes are in the file. Nothing is copied until a value is asked for, so
/// that a vocabulary of 10^5 tokens costs nothing to a reader that does not want it.
class GgufValue {
  public:
    /// Reads one value and checks it: lengths against the bytes left, booleans to be 0 or 1, no arrays of arrays.
    /// `key` is for messages. Throws Error (CorruptFile, Unsupported).
    [[nodiscard]] static GgufValue read(detail::gguf::Cursor& cursor, std::string_view key) {
        const auto type = read_type(cursor, key);
        if (type != GgufValueType::Array) {
            GgufValue value(type, type, 1);
            value.read_elements(cursor, key);
            return value;
        }
        const auto element_type = read_type(cursor, key);
        if (element_type == GgufValueType::Array)
            cursor.unsupported("metadata key ", detail::quoted(key), " is an array of arrays");
        GgufValue value(type, element_type, cursor.number<std::uint64_t>("an array's length"));
        value.read_elements(cursor, key);
        return value;
    }

    [[nodiscard]] GgufValueType type() const noexcept { return type_; }
    /// Of an array, the type of its elements; otherwise type().
    [[nodiscard]] GgufValueType element_type() const noexcept { return element_type_; }
    [[nodiscard]] bool is_array() const noexcept { return type_ == GgufValueType::Array; }
    /// Elements of an array; 1 for anything else.
    [[nodiscard]] std::uint64_t size() const noexcept { return count_; }

    /// E.g. "uint32" or "array of string".
    [[nodiscard]] std::string type_name() const {
        return (is_array() ? "array of " : "") + std::string(info(element_type_)->name);
    }

    // The value as a C++ type; nothing where the file has another type or a number that the C++ type cannot hold.

    [[nodiscard]] std::optional<std::uint64_t> as_uint() const noexcept {
        if (type_ == GgufValueType::UInt64) return detail::gguf::load_number<std::uint64_t>(data_);
        const auto number = as_int();
        if (!number || *number < 0) return std::nullopt;
        return static_cast<std::uint64_t>(*number);
    }

    [[nodiscard]] std::optional<std::int64_t> as_int() const noexcept {
        return is_array() ? std::nullopt : int_at(element_type_, data_);
    }

    [[nodiscard]] std::optional<double> as_float() const noexcept {
        if (type_ == GgufValueType::Float32) return static_cast<double>(detail::gguf::load_number<float>(data_));
        if (type_ == GgufValueType::Float64) return detail::gguf::load_number<double>(data_);
        return std::nullopt;
    }

    [[nodiscard]] std::optional<bool> as_bool() const noexcept {
        if (type_ != GgufValueType::Bool) return std::nullopt;
        return *data_ != std::byte{0};
    }

    /// The view is into the file. Any bytes: the format says UTF-8, vocabularies have been seen that do not keep to it.
    [[nodiscard]] std::optional<std::string_view> as_string() const noexcept {
        if (type_ != GgufValueType::String) return std::nullopt;
        return string_at(data_);
    }

    [[nodiscard]] std::optional<std::vector<std::string>> as_string_array() const {
        if (!is_array() || element_type_ != GgufValueType::String) return std::nullopt;
        std::vector<std::string> strings;
        strings.reserve(static_cast<std::size_t>(count_));
        const std::byte* at = data_;
        for (std::uint64_t i = 0; i < count_; ++i) {
            const std::string_view text = string_at(at);
            strings.emplace_back(text);
            at += sizeof(std::uint64_t) + text.size();
        }
        return strings;
    }

    [[nodiscard]] std::optional<std::vector<std::int64_t>> as_int_array() const {
        if (!is_array() || !is_integer(element_type_)) return std::nullopt;
        std::vector<std::int64_t> numbers;
        numbers.reserve(static_cast<std::size_t>(count_));
        const std::size_t step = info(element_type_)->bytes;
        for (std::uint64_t i = 0; i < count_; ++i) {
            const auto number = int_at(element_type_, data_ + i * step);
            if (!number) return std::nullopt;
            numbers.push_back(*number);
        }
        return numbers;
    }

    /// Booleans, or integers that are 0 or 1: llama.cpp writes either.
    [[nodiscard]] std::optional<std::vector<bool>> as_bool_array() const {
        std::vector<bool> flags;
        if (is_array() && element_type_ == GgufValueType::Bool) {
            for (std::uint64_t i = 0; i < count_; ++i) flags.push_back(data_[i] != std::byte{0});
            return flags;
        }
        const auto numbers = as_int_array();
        if (!numbers) return std::nullopt;
        for (const std::int64_t number : *numbers) {
            if (number != 0 && number != 1) return std::nullopt;
            flags.push_back(number == 1);
        }
        return flags;
    }

    /// float64 elements are rounded to float, those beyond its range to infinity.
    [[nodiscard]] std::optional<std::vector<float>> as_float_array() const {
        if (!is_array()) return std::nullopt;
        std::vector<float> numbers;
        if (element_type_ == GgufValueType::Float32) {
            numbers.resize(static_cast<std::size_t>(count_));
            if (count_ != 0) std::memcpy(numbers.data(), data_, numbers.size() * sizeof(float));
        } else if (element_type_ == GgufValueType::Float64) {
            numbers.reserve(static_cast<std::size_t>(count_));
            for (std::uint64_t i = 0; i < count_; ++i)
                numbers.push_back(to_float(detail::gguf::load_number<double>(data_ + 8 * i)));
        } else {
            return std::nullopt;
        }
        return numbers;
    }

  private:
    GgufValue(GgufValueType type, GgufValueType element_type, std::uint64_t count) noexcept
        : type_(type), element_type_(element_type), count_(count) {}

    static GgufValueType read_type(detail::gguf::Cursor& cursor, std::string_view key) {
        const auto type = cursor.number<std::uint32_t>("a value type");
        if (!info(GgufValueType{type}))
            cursor.corrupt("metadata key ", detail::quoted(key), " has the unknown value type ", type);
        return GgufValueType{type};
    }

    /// Sets data_ and steps over count_ elements.
    void read_elements(detail::gguf::Cursor& cursor, std::string_view key) {
        const std::string_view what = "a metadata value";
        const std::size_t bytes = info(element_type_)->bytes;
        // Every element takes bytes of the file, so this bounds the loops below and all later allocations.
        const std::size_t least = bytes != 0 ? bytes : sizeof(std::uint64_t);
        if (count_ > cursor.left() / least)
            cursor.corrupt("cut short: metadata key ", detail::quoted(key), " (", type_name(), ") has ", count_,
                           " elements at byte ", cursor.position(), ", ", cursor.left(), " bytes are left");
        data_ = cursor.take(0, what);
        if (bytes == 0) {
            for (std::uint64_t i = 0; i < count_; ++i) (void)cursor.string(what);
            return;
        }
        (void)cursor.take(count_ * bytes, what);
        if (element_type_ != GgufValueType::Bool) return;
        for (std::uint64_t i = 0; i < count_; ++i)
            if (const auto flag = detail::gguf::load_number<std::uint8_t>(data_ + i); flag > 1)
                cursor.corrupt("metadata key ", detail::quoted(key), " has the boolean ", unsigned{flag},
                               ", expected 0 or 1");
    }

    static bool is_integer(GgufValueType type) noexcept {
        return type != GgufValueType::Float32 && type != GgufValueType::Float64 && type != GgufValueType::Bool &&
               type != GgufValueType::String && type != GgufValueType::Array;
    }

    static std::optional<std::int64_t> int_at(GgufValueType type, const std::byte* at) noexcept {
        switch (type) {
            case GgufValueType::UInt8: return detail::gguf::load_number<std::uint8_t>(at);
            case GgufValueType::Int8: return detail::gguf::load_number<std::int8_t>(at);
            case GgufValueType::UInt16: return detail::gguf::load_number<std::uint16_t>(at);
            case GgufValueType::Int16: return detail::gguf::load_number<std::int16_t>(at);
            case GgufValueType::UInt32: return detail::gguf::load_number<std::uint32_t>(at);
            case GgufValueType::Int32: return detail::gguf::load_number<std::int32_t>(at);
            case GgufValueType::Int64: return detail::gguf::load_number<std::int64_t>(at);
            case GgufValueType::UInt64: {
                const auto number = detail::gguf::load_number<std::uint64_t>(at);
                if (number > std::uint64_t{(std::numeric_limits<std::int64_t>::max)()}) return std::nullopt;
                return static_cast<std::int64_t>(number);
            }
            case GgufValueType::Float32:
            case GgufValueType::Float64:
            case GgufValueType::Bool:
            case GgufValueType::String:
            case GgufValueType::Array: break;
        }
        return std::nullopt;
    }

    static std::string_view string_at(const std::byte* at) noexcept {
        const auto length = detail::gguf::load_number<std::uint64_t>(at);
        return {reinterpret_cast<const char*>(at + sizeof length), static_cast<std::size_t>(length)};
    }

    static float to_float(double number) noexcept {
        // Out of range the language leaves the conversion undefined.
        if (std::abs(number) > static_cast<double>((std::numeric_limits<float>::max)()))
            return std::copysign(std::numeric_limits<float>::infinity(), number < 0 ? -1.0F : 1.0F);
        return static_cast<float>(number);
    }

    GgufValueType type_, element_type_;
    std::uint64_t count_;
    const std::byte* data_ = nullptr;
};

}  // namespace adainfer::inline v0
