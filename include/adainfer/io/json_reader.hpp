#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/io/text_file.hpp"

// What the readers of JSON files share. The parser is nlohmann's, which works without recursion; on top of it stand the
// checks that a file of a stranger needs and it leaves out: repeated keys, depth, and bytes that it would skip.

namespace adainfer::inline v0::detail::json {

using Value = nlohmann::json;

/// Owns a document and takes it apart from the leaves up: Value's own destructor allocates where a value has children, and an
/// allocation that fails in a destructor ends the process.
class Document {
  public:
    Document() = default;
    explicit Document(Value root) noexcept : root_(std::move(root)) {}
    Document(Document&& other) noexcept : root_(std::exchange(other.root_, Value())) {}
    Document& operator=(Document&& other) noexcept {
        std::swap(root_, other.root_);
        return *this;
    }
    ~Document() { take_apart(root_); }

    [[nodiscard]] Value& root() noexcept { return root_; }
    [[nodiscard]] const Value& root() const noexcept { return root_; }

  private:
    static void take_apart(Value& value) noexcept {  // as deep as parse() allows
        if (!value.is_structured()) return;
        for (Value& child : value) take_apart(child);
        value.clear();
    }

    Value root_;
};

/// The parser's own words as one printable line, without its tag in brackets.
[[nodiscard]] inline std::string reason(const nlohmann::json::exception& error) {
    constexpr std::size_t longest = 200;
    std::string_view text = error.what();
    if (const std::size_t tag = text.find("] "); tag != std::string_view::npos) text.remove_prefix(tag + 2);
    std::string shown;
    for (const char c : text.substr(0, longest)) shown += c >= ' ' && c <= '~' ? c : '?';
    return text.size() > longest ? shown + "..." : shown;
}

/// What an error says without the name of its code, for a message that passes it on.
[[nodiscard]] inline std::string_view message_of(const Error& error) {
    return std::string_view(error.what()).substr(to_string(error.code()).size() + 2);
}

/// Refuses what the parser accepts though it is not JSON: it skips a byte order mark and takes NUL for the end.
inline void check_text(std::string_view text, std::string_view file) {
    if (text.starts_with("\xEF\xBB\xBF"))
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: it starts with a byte order mark");
    if (const std::size_t at = text.find('\0'); at != std::string_view::npos) {
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: a NUL byte at byte ", at);
    }
}

/// Parses a document. Throws Error (CorruptFile) where it is not JSON in UTF-8, nests deeper than `max_depth`, or an object
/// has a key twice; the message names `file`.
[[nodiscard]] inline Document parse(std::string_view text, std::string_view file, std::size_t max_depth = 32) {
    using Event = Value::parse_event_t;
    check_text(text, file);
    std::vector<std::set<std::string>> keys;  // of the objects that are open; an array has an empty set
    const auto watch = [&](int, Event event, Value& value) {
        switch (event) {
            case Event::object_start:
            case Event::array_start:
                if (keys.size() == max_depth)
                    fail(ErrorCode::CorruptFile, "'", file, "': nested deeper than ", max_depth, " levels");
                keys.emplace_back();
                break;
            case Event::key:
                if (!keys.back().insert(value.get<std::string>()).second) {
                    fail(ErrorCode::CorruptFile, "'", file, "': the key ", detail::quoted(value.get<std::string>()),
                         " stands twice in an object");
                }
                break;
            case Event::object_end:
            case Event::array_end: keys.pop_back(); break;
            case Event::value: break;
        }
        return true;
    };
    try {
        return Document(Value::parse(text.begin(), text.end(), watch));
    } catch (const nlohmann::json::exception& error) {
        fail(ErrorCode::CorruptFile, "'", file, "': not valid JSON: ", reason(error));
    }
}

/// Parses a file. Throws Error (Io) where it cannot be read, Unsupported where it is larger than `max_bytes`, and as parse().
[[nodiscard]] inline Document parse_file(const std::filesystem::path& path, std::size_t max_bytes) {
    return parse(detail::TextFile(path, max_bytes).text(), path.string());
}

/// A value of a document and where it stands, for messages such as "'a.json': field 'train[3].output' must be a string, found
/// null". Every member throws Error (CorruptFile). Views the document and the name.
class Field {
  public:
    Field(const Value& value, std::string_view file, std::string path = {})
        : value_(&value), file_(file), path_(std::move(path)) {}

    /// The member of an object, or nothing. Throws where this is no object.
    [[nodiscard]] std::optional<Field> find(std::string_view key) const {
        if (!value_->is_object()) wrong("an object");
        const auto it = value_->find(std::string(key));
        if (it == value_->end()) return std::nullopt;
        return Field(*it, file_, member(key));
    }

    /// The member of an object.
    [[nodiscard]] Field at(std::string_view key) const {
        const auto field = find(key);
        if (!field) fail(ErrorCode::CorruptFile, "'", file_, "': field '", member(key), "' is missing");
        return *field;
    }

    /// The elements of an array.
    [[nodiscard]] std::vector<Field> elements() const {
        if (!value_->is_array()) wrong("an array");
        std::vector<Field> fields;
        fields.reserve(value_->size());
        for (const Value& value : *value_)
            fields.emplace_back(value, file_, path_ + '[' + std::to_string(fields.size()) + ']');
        return fields;
    }

    /// The members of an object, by key.
    [[nodiscard]] std::vector<std::pair<std::string, Field>> members() const {
        if (!value_->is_object()) wrong("an object");
        std::vector<std::pair<std::string, Field>> fields;
        for (const auto& [key, value] : value_->items()) fields.emplace_back(key, Field(value, file_, member(key)));
        return fields;
    }

    /// Throws where an object has members that are not among these.
    void only(std::initializer_list<std::string_view> known) const {
        for (const auto& [key, field] : members()) {
            if (std::find(known.begin(), known.end(), key) != known.end()) continue;
            std::string list;
            for (const std::string_view k : known) list += (list.empty() ? "" : ", ") + std::string(k);
            fail(ErrorCode::CorruptFile, "'", file_, "': unknown field '", field.path_, "'; known here: ", list);
        }
    }

    [[nodiscard]] bool is_string() const noexcept { return value_->is_string(); }
    [[nodiscard]] bool is_null() const noexcept { return value_->is_null(); }
    [[nodiscard]] bool is_array() const noexcept { return value_->is_array(); }
    [[nodiscard]] bool is_object() const noexcept { return value_->is_object(); }

    [[nodiscard]] bool boolean() const {
        if (!value_->is_boolean()) wrong("true or false");
        return value_->get<bool>();
    }

    [[nodiscard]] const std::string& text() const {
        if (!value_->is_string()) wrong("a string");
        return value_->get_ref<const std::string&>();
    }

    /// A whole number from 0 to `most`.
    [[nodiscard]] std::size_t count(std::size_t most) const {
        if (!value_->is_number_unsigned()) wrong("a whole number, 0 or more");
        const auto number = value_->get<std::uint64_t>();
        if (number > most)
            fail(ErrorCode::CorruptFile, "'", file_, "': field '", path_, "' is ", number, ", at most ", most, " is allowed");
        return static_cast<std::size_t>(number);
    }

    [[nodiscard]] double number() const {
        if (!value_->is_number()) wrong("a number");
        return value_->get<double>();
    }

    /// A number in the range of a float.
    [[nodiscard]] float real() const {
        const double wide = number();
        if (std::abs(wide) > static_cast<double>((std::numeric_limits<float>::max)()))
            wrong("a number in the range of a float");
        return static_cast<float>(wide);
    }

    /// Throws: the field is not `expected`.
    [[noreturn]] void wrong(std::string_view expected) const {
        const std::string where = path_.empty() ? "the document" : "field '" + path_ + "'";
        std::string found = value_->type_name();
        if (value_->is_number()) found = value_->dump();
        if (value_->is_string()) found = detail::quoted(value_->get_ref<const std::string&>());
        fail(ErrorCode::CorruptFile, "'", file_, "': ", where, " must be ", expected, ", found ", found);
    }

  private:
    /// Keys come from the file: only printable characters of them may reach a message.
    [[nodiscard]] std::string member(std::string_view key) const {
        const std::string shown = detail::quoted(key);
        return (path_.empty() ? "" : path_ + '.') + shown.substr(1, shown.size() - 2);
    }

    const Value* value_;
    std::string_view file_;
    std::string path_;
};

}  // namespace adainfer::inline v0::detail::json
