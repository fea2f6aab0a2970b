#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/io/gguf_cursor.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/io/safetensors_types.hpp"

namespace adainfer::inline v0 {

namespace detail::safetensors {

/// What the JSON of a header says of a tensor.
struct TensorEntry {
    std::string name;
    std::string_view dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin = 0, end = 0;  // from the start of the data section
};

/// Takes the events of the JSON parser and keeps what the format knows, so that a header costs memory for its tensors and
/// not for a document tree. The official reader accepts further members of a tensor and ignores them, and so do we.
class HeaderHandler {
  public:
    explicit HeaderHandler(std::string_view file) : file_(file) {}

    std::vector<TensorEntry> tensors;
    std::map<std::string, std::string> metadata;

    bool null() { return at() == At::Header && key_ == metadata_key ? true : other("null"); }
    bool boolean(bool) { return other("a boolean"); }
    bool number_integer(std::int64_t) { return other("a negative number"); }
    bool number_float(double, const std::string&) { return other("a fraction or a number beyond 64 bits"); }
    bool binary(nlohmann::json::binary_t&) { return other("binary data"); }

    bool number_unsigned(std::uint64_t number) {
        if (at() == At::Shape) {
            if (tensors.back().shape.size() == max_rank)
                corrupt("tensor ", detail::quoted(tensors.back().name), " has more than ", max_rank, " dimensions");
            tensors.back().shape.push_back(number);
        } else if (at() == At::Offsets) {
            if (offsets_ == 2) corrupt("tensor ", detail::quoted(tensors.back().name), ": more than two data_offsets");
            (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = number;
        } else {
            return other("a number");
        }
        return true;
    }

    bool string(std::string& text) {
        if (at() == At::Metadata) {
            if (!metadata.emplace(key_, text).second) corrupt("the metadata key ", detail::quoted(key_), " stands twice");
        } else if (at() == At::Tensor && field_ == dtype_field) {
            const DTypeBits* const found = find_dtype(text);
            if (found == nullptr) {
                fail(ErrorCode::Unsupported, "'", file_, "': tensor ", detail::quoted(tensors.back().name),
                     " is of unknown type ", detail::quoted(text));
            }
            tensors.back().dtype = found->name;
        } else {
            return other("a string");
        }
        return true;
    }

    bool key(std::string& key) {
        key_ = key;
        if (at() == At::Header && key == metadata_key && std::exchange(has_metadata_, true))
            corrupt("the key '__metadata__' stands twice");
        if (at() == At::Tensor) {
            field_ = key == "dtype"          ? dtype_field
                     : key == "shape"        ? shape_field
                     : key == "data_offsets" ? offsets_field
                                             : unknown_field;
            if (field_ != unknown_field && (seen_ & field_) != 0)
                corrupt("tensor ", detail::quoted(tensors.back().name), ": ", key, " stands twice");
            seen_ |= field_;
        }
        return true;
    }

    bool start_object(std::size_t) {
        if (open_.empty()) return enter(At::Header);
        if (at() == At::Header && key_ == metadata_key) return enter(At::Metadata);
        if (at() == At::Header) {
            tensors.push_back({key_, {}, {}, 0, 0});
            seen_ = 0;
            offsets_ = 0;
            return enter(At::Tensor);
        }
        return other("an object") && enter(At::Ignored);
    }

    bool start_array(std::size_t) {
        if (at() == At::Tensor && field_ == shape_field) return enter(At::Shape);
        if (at() == At::Tensor && field_ == offsets_field) return enter(At::Offsets);
        return other("an array") && enter(At::Ignored);
    }

    bool end_object() {
        if (at() == At::Tensor) {
            for (const auto& [bit, name] :
                 {std::pair{dtype_field, "dtype"}, {shape_field, "shape"}, {offsets_field, "data_offsets"}}) {
                if ((seen_ & bit) == 0) corrupt("tensor ", detail::quoted(tensors.back().name), ": ", name, " is missing");
            }
            if (offsets_ != 2)
                corrupt("tensor ", detail::quoted(tensors.back().name), ": expected two data_offsets, found ", offsets_);
        }
        open_.pop_back();
        return true;
    }

    bool end_array() {
        open_.pop_back();
        return true;
    }

    [[noreturn]] bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) {
        corrupt("the header is not valid JSON: ", json::reason(error));
    }

    template <class... Parts>
    [[noreturn]] void corrupt(const Parts&... parts) const {
        fail(ErrorCode::CorruptFile, "'", file_, "': ", parts...);
    }

  private:
    enum class At { Nowhere, Header, Metadata, Tensor, Shape, Offsets, Ignored };
    static constexpr std::string_view metadata_key = "__metadata__";
    static constexpr unsigned dtype_field = 1, shape_field = 2, offsets_field = 4, unknown_field = 8;

    [[nodiscard]] At at() const noexcept { return open_.empty() ? At::Nowhere : open_.back(); }

    bool enter(At place) {
        if (open_.size() == max_depth) corrupt("the header nests deeper than ", max_depth, " levels");
        open_.push_back(place);
        return true;
    }

    /// A value that the format has no use for here: ignored inside unknown members, refused elsewhere.
    bool other(std::string_view found) {
        if (at() == At::Ignored || (at() == At::Tensor && field_ == unknown_field)) return true;
        if (at() == At::Nowhere) corrupt("the header must be an object, found ", found);
        if (at() == At::Metadata) corrupt("the metadata value of ", detail::quoted(key_), " must be a string, found ", found);
        if (at() == At::Header) corrupt("the value of ", detail::quoted(key_), " must be an object, found ", found);
        const std::string_view field = field_ == dtype_field ? "dtype" : field_ == shape_field ? "shape" : "data_offsets";
        corrupt("tensor ", detail::quoted(tensors.back().name), ": bad ", field, ": found ", found);
    }

    std::string_view file_;
    std::vector<At> open_;
    std::string key_;
    unsigned field_ = 0, seen_ = 0;
    std::size_t offsets_ = 0;
    bool has_metadata_ = false;
};

struct Header {
    std::vector<SafetensorsTensor> tensors;  // in the order of their data
    std::vector<std::size_t> by_name;        // indices into tensors, names ascending
    std::map<std::string, std::string> metadata;
};

/// Checks the tensors against each other and the data section, and gives them their bytes.
[[nodiscard]] inline std::vector<SafetensorsTensor> place(std::vector<TensorEntry> entries, std::span<const std::byte> data,
                                                          const HeaderHandler& handler) {
    std::stable_sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
        return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::vector<SafetensorsTensor> tensors;
    tensors.reserve(entries.size());
    std::uint64_t previous_end = 0;
    for (TensorEntry& entry : entries) {
        const std::string name = detail::quoted(entry.name);
        if (entry.begin != previous_end || entry.end < entry.begin) {
            handler.corrupt("tensor ", name, ": bytes ", entry.begin, " to ", entry.end, ", expected to start at ",
                            previous_end);
        }
        const auto bytes = data_bytes(entry.dtype, entry.shape);
        if (!bytes) handler.corrupt("tensor ", name, ": its shape overflows 64 bits or fills no whole number of bytes");
        if (*bytes != entry.end - entry.begin) {
            handler.corrupt("tensor ", name, ": shape and type take ", *bytes, " bytes, data_offsets span ",
                            entry.end - entry.begin);
        }
        if (entry.end > data.size()) {
            handler.corrupt("tensor ", name, ": ends at byte ", entry.end, " of the data, which has ", data.size());
        }
        previous_end = entry.end;
        tensors.push_back({std::move(entry.name), entry.dtype, std::move(entry.shape),
                           data.subspan(static_cast<std::size_t>(entry.begin), static_cast<std::size_t>(*bytes))});
    }
    if (previous_end != data.size()) {
        handler.corrupt("the tensors cover ", previous_end, " bytes of the data, which has ", data.size());
    }
    return tensors;
}

/// Reads and checks everything in front of the data. Throws Error (CorruptFile, Unsupported).
[[nodiscard]] inline Header read_header(std::span<const std::byte> bytes, std::string_view file) {
    HeaderHandler handler(file);
    gguf::Cursor cursor(bytes, file);
    const auto length = cursor.number<std::uint64_t>("the length of the header");
    if (length > max_header_bytes)
        handler.corrupt("a header of ", length, " bytes, at most ", max_header_bytes, " are allowed");
    const std::byte* const start = cursor.take(length, "the header");
    const std::string_view text(reinterpret_cast<const char*>(start), static_cast<std::size_t>(length));
    if (!gguf::is_utf8(text)) handler.corrupt("the header is not UTF-8");
    json::check_text(text, file);
    static_cast<void>(nlohmann::json::sax_parse(text.begin(), text.end(), &handler));

    Header header;
    header.tensors = place(std::move(handler.tensors), bytes.subspan(cursor.position()), handler);
    header.metadata = std::move(handler.metadata);
    for (std::size_t i = 0; i < header.tensors.size(); ++i) header.by_name.push_back(i);
    const auto name_of = [&](std::size_t i) -> const std::string& { return header.tensors[i].name; };
    std::sort(header.by_name.begin(), header.by_name.end(),
              [&](std::size_t a, std::size_t b) { return name_of(a) < name_of(b); });
    const auto twice = std::adjacent_find(header.by_name.begin(), header.by_name.end(),
                                          [&](std::size_t a, std::size_t b) { return name_of(a) == name_of(b); });
    if (twice != header.by_name.end()) handler.corrupt("the tensor ", detail::quoted(name_of(*twice)), " stands twice");
    return header;
}

}  // namespace detail::safetensors

}  // namespace adainfer::inline v0
