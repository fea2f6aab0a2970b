#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/checked.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/io/file_bytes.hpp"
#include "adainfer/io/gguf_cursor.hpp"
#include "adainfer/io/gguf_index.hpp"
#include "adainfer/io/gguf_split.hpp"
#include "adainfer/io/gguf_types.hpp"
#include "adainfer/io/gguf_value.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/weight_view.hpp"

namespace adainfer::inline v0 {

/// A key and its value; the key is a view into the file.
struct GgufEntry {
    std::string_view key;
    GgufValue value;
};

/// A tensor of a GGUF file. The data lie in the file and need no alignment of their own.
struct GgufTensor {
    std::string name;
    std::uint32_t type = 0;           ///< number of the storage type in the file
    std::string_view type_name;       ///< e.g. "q4_1"; a literal
    std::vector<std::uint64_t> dims;  ///< at most 4, the innermost (contiguous) first; none for a scalar
    std::uint64_t offset = 0;         ///< from the start of the data section of its file
    std::uint64_t bytes = 0;          ///< of the data; 0 where a dimension is 0
    const std::byte* data = nullptr;  ///< never null
};

/// A GGUF file, version 2 or 3, little-endian: what a model file holds, not what it means. Everything that does not
/// follow the format is refused when the file is opened, so a GgufFile is consistent: every tensor lies inside the
/// file, in the order of the table, with no gap but alignment padding. (Bytes behind the last tensor are ignored, and
/// the padding after it may be missing.)
///
/// Immutable; may be used from several threads. A copy shares the bytes.
class GgufFile {
  public:
    /// Opens and checks a file. Of a model split over several files, `path` is the first
    /// ("...-00001-of-00003.gguf"); the others are opened too and their tensors added.
    /// Throws Error: Io (a file cannot be opened), CorruptFile, Unsupported (version, byte order).
    [[nodiscard]] static GgufFile open(const std::filesystem::path& path, FileAccess access = FileAccess::Map) {
        GgufFile file = open_part(path, access);
        if (const auto count = file.find_uint(detail::gguf::split_count_key); count && *count > 1)
            file.add_parts(path, *count, access);
        return file;
    }

    /// Checks a file in memory. `name` is for messages; `storage` keeps the bytes alive (null: the caller does).
    /// Throws Error (CorruptFile; Unsupported, also for a part of a split model).
    [[nodiscard]] static GgufFile parse(std::span<const std::byte> bytes, std::string name,
                                        std::shared_ptr<const void> storage = nullptr) {
        GgufFile file = parse_part(bytes, std::move(name), std::move(storage));
        if (const auto count = file.find_uint(detail::gguf::split_count_key); count && *count > 1)
            fail(ErrorCode::Unsupported, "'", file.name_, "': one of ", *count,
                 " parts of a split model, which can only be opened from files");
        return file;
    }

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
    /// Of tensor offsets, in bytes; a power of two.
    [[nodiscard]] std::uint64_t alignment() const noexcept { return alignment_; }
    /// Keeps the bytes of all tensors alive.
    [[nodiscard]] const std::shared_ptr<const void>& storage() const noexcept { return storage_; }
    /// True where they are a mapped file's.
    [[nodiscard]] bool mapped() const noexcept { return mapped_; }

    // Metadata. find_* returns nothing where the key is absent; get_* throws Error (CorruptFile) then. Both throw
    // Error (CorruptFile) where the value is of another type: the message names file, key, expected and found type.

    /// All entries in the order of the file.
    [[nodiscard]] std::span<const GgufEntry> metadata() const noexcept { return entries_; }

    /// The value of a key, or null.
    [[nodiscard]] const GgufValue* find(std::string_view key) const noexcept {
        const auto index = entry_index_.find(key, [this](std::size_t i) { return entries_[i].key; });
        return index ? &entries_[*index].value : nullptr;
    }

    [[nodiscard]] bool has(std::string_view key) const noexcept { return find(key) != nullptr; }

    /// Any integer type; not negative.
    [[nodiscard]] std::optional<std::uint64_t> find_uint(std::string_view key) const {
        return convert(key, "a non-negative integer", &GgufValue::as_uint);
    }
    /// Any integer type; up to 2^63 - 1.
    [[nodiscard]] std::optional<std::int64_t> find_int(std::string_view key) const {
        return convert(key, "an integer", &GgufValue::as_int);
    }
    /// float32 or float64.
    [[nodiscard]] std::optional<double> find_float(std::string_view key) const {
        return convert(key, "a floating-point number", &GgufValue::as_float);
    }
    [[nodiscard]] std::optional<bool> find_bool(std::string_view key) const {
        return convert(key, "a boolean", &GgufValue::as_bool);
    }
    /// Bytes as they are in the file.
    [[nodiscard]] std::optional<std::string> find_string(std::string_view key) const {
        const auto text = convert(key, "a string", &GgufValue::as_string);
        return text ? std::optional<std::string>(*text) : std::nullopt;
    }
    /// Bytes as they are in the file.
    [[nodiscard]] std::optional<std::vector<std::string>> find_string_array(std::string_view key) const {
        return convert(key, "an array of strings", &GgufValue::as_string_array);
    }
    /// Elements of any integer type, each up to 2^63 - 1.
    [[nodiscard]] std::optional<std::vector<std::int64_t>> find_int_array(std::string_view key) const {
        return convert(key, "an array of integers", &GgufValue::as_int_array);
    }
    /// Elements booleans, or integers that are 0 or 1.
    [[nodiscard]] std::optional<std::vector<bool>> find_bool_array(std::string_view key) const {
        return convert(key, "an array of booleans", &GgufValue::as_bool_array);
    }
    /// Elements float32 or float64; the latter are rounded.
    [[nodiscard]] std::optional<std::vector<float>> find_float_array(std::string_view key) const {
        return convert(key, "an array of floating-point numbers", &GgufValue::as_float_array);
    }

    [[nodiscard]] std::uint64_t get_uint(std::string_view key) const { return present(find_uint(key), key); }
    [[nodiscard]] std::int64_t get_int(std::string_view key) const { return present(find_int(key), key); }
    [[nodiscard]] double get_float(std::string_view key) const { return present(find_float(key), key); }
    [[nodiscard]] bool get_bool(std::string_view key) const { return present(find_bool(key), key); }
    [[nodiscard]] std::string get_string(std::string_view key) const { return present(find_string(key), key); }
    [[nodiscard]] std::vector<std::string> get_string_array(std::string_view key) const {
        return present(find_string_array(key), key);
    }
    [[nodiscard]] std::vector<std::int64_t> get_int_array(std::string_view key) const {
        return present(find_int_array(key), key);
    }
    [[nodiscard]] std::vector<float> get_float_array(std::string_view key) const {
        return present(find_float_array(key), key);
    }

    // Tensors.

    /// All tensors in the order of the file.
    [[nodiscard]] std::span<const GgufTensor> tensors() const noexcept { return tensors_; }

    /// The tensor of this name, or null. The pointer is valid as long as this object.
    [[nodiscard]] const GgufTensor* find_tensor(std::string_view tensor_name) const noexcept {
        const auto index =
            tensor_index_.find(tensor_name, [this](std::size_t i) { return std::string_view(tensors_[i].name); });
        return index ? &tensors_[*index] : nullptr;
    }

    /// The tensor of this name. Throws Error (CorruptFile) where the file has none.
    [[nodiscard]] const GgufTensor& tensor(std::string_view tensor_name) const {
        const GgufTensor* const found = find_tensor(tensor_name);
        if (found == nullptr)
            fail(ErrorCode::CorruptFile, "'", name_, "': no tensor ", detail::quoted(tensor_name));
        return *found;
    }

    /// The tensor as a matrix [rows, cols]: cols is the innermost dimension, rows the product of the others (one row
    /// for a vector or scalar). Throws Error (Unsupported) for a storage type that the library does not compute with.
    [[nodiscard]] WeightView weight(const GgufTensor& tensor) const {
        const GgmlTypeInfo* const type = find_ggml_type(tensor.type);
        if (type == nullptr || !type->dtype)
            fail(ErrorCode::Unsupported, "'", name_, "': tensor ", detail::quoted(tensor.name), " is of type ",
                 tensor.type_name, "; supported are ", supported_ggml_types());
        std::uint64_t rows = 1;
        for (std::size_t i = 1; i < tensor.dims.size(); ++i) rows *= tensor.dims[i];  // fits: see read_tensor
        const std::uint64_t cols = tensor.dims.empty() ? 1 : tensor.dims[0];
        return {*type->dtype, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), tensor.data};
    }

  private:
    static constexpr std::size_t longest_key = 65535;       // of the format's specification
    static constexpr std::size_t longest_tensor_name = 63;  // llama.cpp keeps names in 64 bytes with a final NUL
    static constexpr std::uint32_t most_dims = 4;
    static constexpr auto largest = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());

    GgufFile() = default;

    static GgufFile parse_part(std::span<const std::byte> bytes, std::string name,
                               std::shared_ptr<const void> storage) {
        GgufFile file;
        file.name_ = std::move(name);
        file.storage_ = std::move(storage);
        detail::gguf::Cursor cursor(bytes, file.name_);
        file.read_header(cursor, bytes);
        return file;
    }

    static GgufFile open_part(const std::filesystem::path& path, FileAccess access) {
        const auto bytes = std::make_shared<const FileBytes>(FileBytes::open(path, access));
        GgufFile file = parse_part(bytes->bytes(), path.string(), bytes);
        file.mapped_ = bytes->mapped();
        return file;
    }

    /// This is the first of `count` parts: opens the others and takes over their tensors and storage.
    void add_parts(const std::filesystem::path& path, std::uint64_t count, FileAccess access) {
        using namespace detail::gguf;
        if (count > most_split_parts)
            fail(ErrorCode::CorruptFile, "'", name_, "': split into ", count, " parts, at most ", most_split_parts,
                 " are possible");
        check_part(*this, 0, count);
        auto storages = std::make_shared<std::vector<std::shared_ptr<const void>>>();
        storages->push_back(std::move(storage_));
        for (std::uint64_t number = 1; number < count; ++number) {
            const auto part_path = split_part_path(path, number, count);
            if (!part_path)
                fail(ErrorCode::Unsupported, "'", name_, "': the first of ", count,
                     " parts of a split model, expected a file name ending in ", split_suffix(0, count));
            GgufFile part = open_part(*part_path, access);
            check_part(part, number, count);
            std::move(part.tensors_.begin(), part.tensors_.end(), std::back_inserter(tensors_));
            storages->push_back(std::move(part.storage_));
        }
        storage_ = std::move(storages);
        index_tensors();
        if (const auto expected = find_uint(split_tensors_key); expected && *expected != tensors_.size())
            fail(ErrorCode::CorruptFile, "'", name_, "': its ", count, " parts have ", tensors_.size(),
                 " tensors, expected ", *expected);
    }

    /// Throws unless the file says that it is part `number` of `count`.
    static void check_part(const GgufFile& part, std::uint64_t number, std::uint64_t count) {
        const std::uint64_t found_number = part.get_uint(detail::gguf::split_number_key);
        const std::uint64_t found_count = part.get_uint(detail::gguf::split_count_key);
        if (found_number != number || found_count != count)
            fail(number == 0 ? ErrorCode::Unsupported : ErrorCode::CorruptFile, "'", part.name_,
                 "': part number ", found_number, " of ", found_count, " of a split model (counted from 0), expected ",
                 number, " of ", count);
    }

    void index_tensors() {
        const auto name_of = [this](std::size_t i) { return std::string_view(tensors_[i].name); };
        if (const auto twice = tensor_index_.build(tensors_.size(), name_of))
            fail(ErrorCode::CorruptFile, "'", name_, "': tensor ", detail::quoted(name_of(*twice)),
                 " is there more than once");
    }

    template <class T>
    std::optional<T> convert(std::string_view key, std::string_view expected,
                             std::optional<T> (GgufValue::*as)() const) const {
        const GgufValue* const value = find(key);
        if (value == nullptr) return std::nullopt;
        std::optional<T> converted = (value->*as)();
        if (!converted) wrong_type(key, expected, *value);
        return converted;
    }

    [[noreturn]] void wrong_type(std::string_view key, std::string_view expected, const GgufValue& value) const {
        std::string found = value.type_name();
        if (const auto number = value.as_uint()) {
            found += " " + std::to_string(*number);
        } else if (const auto negative = value.as_int()) {
            found += " " + std::to_string(*negative);
        }
        fail(ErrorCode::CorruptFile, "'", name_, "': metadata key ", detail::quoted(key), " is of type ", found,
             ", expected ", expected);
    }

    template <class T>
    T present(std::optional<T> value, std::string_view key) const {
        if (!value) fail(ErrorCode::CorruptFile, "'", name_, "': no metadata key ", detail::quoted(key));
        return *std::move(value);
    }

    void read_header(detail::gguf::Cursor& cursor, std::span<const std::byte> bytes) {
        if (std::memcmp(cursor.take(4, "the magic number"), "GGUF", 4) != 0)
            cursor.corrupt("not a GGUF file (its first four bytes are not \"GGUF\")");
        version_ = cursor.number<std::uint32_t>("the version");
        if (version_ != 0 && (version_ & 0xFFFFU) == 0) cursor.unsupported("big-endian GGUF file");
        if (version_ != 2 && version_ != 3)
            cursor.unsupported("GGUF version ", version_, ", supported are versions 2 and 3");
        const auto tensor_count = cursor.number<std::uint64_t>("the number of tensors");
        const auto entry_count = cursor.number<std::uint64_t>("the number of metadata keys");
        // The shortest entry: a length, one byte of key, a type, one byte. The shortest tensor: a length, one byte of
        // name, the number of dimensions (none), a type, an offset.
        check_count(cursor, "metadata keys", entry_count, 8 + 1 + 4 + 1);
        check_count(cursor, "tensors", tensor_count, 8 + 1 + 4 + 4 + 8);

        for (std::uint64_t i = 0; i < entry_count; ++i) {
            const std::string_view key = read_name(cursor, "metadata key", longest_key);
            entries_.push_back({key, GgufValue::read(cursor, key)});
        }
        const auto key_of = [this](std::size_t i) { return entries_[i].key; };
        if (const auto twice = entry_index_.build(entries_.size(), key_of))
            cursor.corrupt("metadata key ", detail::quoted(key_of(*twice)), " is there more than once");
        read_alignment(cursor);

        std::uint64_t expected_offset = 0;
        for (std::uint64_t i = 0; i < tensor_count; ++i) read_tensor(cursor, expected_offset);
        index_tensors();
        locate_tensors(cursor, bytes);
    }

    static void check_count(const detail::gguf::Cursor& cursor, std::string_view what, std::uint64_t count,
                            std::uint64_t least_bytes) {
        if (count > cursor.left() / least_bytes)
            cursor.corrupt("cut short: ", count, " ", what, " are announced, ", cursor.left(), " bytes are left");
    }

    static std::string_view read_name(detail::gguf::Cursor& cursor, std::string_view what, std::size_t longest) {
        const std::string_view name = cursor.string(what);
        if (name.empty()) cursor.corrupt("a ", what, " is empty");
        if (name.size() > longest)
            cursor.corrupt(what, " ", detail::quoted(name), " has ", name.size(), " bytes, at most ", longest,
                           " are allowed");
        if (name.find('\0') != std::string_view::npos || !detail::gguf::is_utf8(name))
            cursor.corrupt(what, " ", detail::quoted(name), " is not UTF-8 text without NUL");
        return name;
    }

    void read_alignment(const detail::gguf::Cursor& cursor) {
        const std::string_view key = "general.alignment";
        const GgufValue* const value = find(key);
        if (value == nullptr) return;
        if (value->type() != GgufValueType::UInt32) wrong_type(key, "uint32", *value);
        alignment_ = *value->as_uint();
        if (!std::has_single_bit(alignment_))
            cursor.corrupt("the alignment (", key, ") is ", alignment_, ", expected a power of two");
    }

    /// `value` rounded up to the alignment. Throws where that does not fit 64 bits.
    [[nodiscard]] std::uint64_t aligned(const detail::gguf::Cursor& cursor, std::uint64_t value) const {
        const auto raised = checked_add(value, alignment_ - 1);
        if (!raised) cursor.corrupt("the tensors are larger than 2^64 bytes");
        return *raised & ~(alignment_ - 1);
    }

    /// Reads one entry of the tensor table. `expected_offset`: where its data must begin; moved behind them.
    void read_tensor(detail::gguf::Cursor& cursor, std::uint64_t& expected_offset) {
        GgufTensor tensor;
        tensor.name = read_name(cursor, "tensor name", longest_tensor_name);
        const auto corrupt = [&](const auto&... parts) {
            cursor.corrupt("tensor ", detail::quoted(tensor.name), " ", parts...);
        };
        const auto dim_count = cursor.number<std::uint32_t>("a tensor's number of dimensions");
        if (dim_count > most_dims) corrupt("has ", dim_count, " dimensions, at most ", most_dims, " are allowed");
        // Zeros count as ones here: every product of some of the dimensions must fit, also that of the rows of a
        // tensor without elements.
        std::uint64_t elements = 1;
        bool has_elements = true;
        for (std::uint32_t i = 0; i < dim_count; ++i) {
            const auto dim = cursor.number<std::uint64_t>("a tensor's dimensions");
            const auto product = checked_mul(elements, (std::max)(dim, std::uint64_t{1}));
            if (!product || *product > largest) corrupt("has more than 2^63 - 1 elements");
            elements = *product;
            has_elements = has_elements && dim != 0;
            tensor.dims.push_back(dim);
        }
        if (!has_elements) elements = 0;

        tensor.type = cursor.number<std::uint32_t>("a tensor's type");
        const GgmlTypeInfo* const type = find_ggml_type(tensor.type);
        if (type == nullptr)
            cursor.unsupported("tensor ", detail::quoted(tensor.name), " is of the unknown type ", tensor.type,
                               "; supported are ", supported_ggml_types());
        tensor.type_name = type->name;
        const std::uint64_t row = tensor.dims.empty() ? 1 : tensor.dims[0];
        if (row % type->block_size != 0)
            corrupt("has rows of ", row, " elements, expected a multiple of ", type->block_size, " for type ",
                    type->name);
        const auto bytes = checked_mul(elements / type->block_size, type->block_bytes);
        if (!bytes || *bytes > largest) corrupt("has more than 2^63 - 1 bytes");
        tensor.bytes = *bytes;

        tensor.offset = cursor.number<std::uint64_t>("a tensor's offset");
        if (tensor.offset != expected_offset)
            corrupt(tensor.offset % alignment_ != 0     ? "is not aligned"
                    : tensor.offset < expected_offset ? "overlaps the tensor before it"
                                                      : "leaves a gap to the tensor before it",
                    ": its offset is ", tensor.offset, ", expected ", expected_offset, " (alignment ", alignment_, ")");
        const auto end = checked_add(tensor.offset, tensor.bytes);
        if (!end) corrupt("ends beyond 2^64 bytes");
        expected_offset = aligned(cursor, *end);
        tensors_.push_back(std::move(tensor));
    }

    /// The tensor table is read: now it is known where the data begin.
    void locate_tensors(const detail::gguf::Cursor& cursor, std::span<const std::byte> bytes) {
        const std::uint64_t start = aligned(cursor, cursor.position());
        for (GgufTensor& tensor : tensors_) {
            const auto begin = checked_add(start, tensor.offset);
            const auto end = begin ? checked_add(*begin, tensor.bytes) : std::nullopt;
            if (tensor.bytes == 0) {  // nowhere to read from, so a file that ends before the padding does no harm
                tensor.data = bytes.data() + (std::min)(begin.value_or(bytes.size()), std::uint64_t{bytes.size()});
                continue;
            }
            if (!end || *end > bytes.size())
                cursor.corrupt("cut short: tensor ", detail::quoted(tensor.name), " has ", tensor.bytes,
                               " bytes at byte ", start, " + ", tensor.offset, ", the file has ", bytes.size());
            tensor.data = bytes.data() + *begin;
        }
    }

    std::string name_;
    std::shared_ptr<const void> storage_;
    bool mapped_ = false;
    std::uint32_t version_ = 0;
    std::uint64_t alignment_ = 32;
    std::vector<GgufEntry> entries_;
    std::vector<GgufTensor> tensors_;
    detail::gguf::NameIndex entry_index_, tensor_index_;
};

}  // namespace adainfer::inline v0
