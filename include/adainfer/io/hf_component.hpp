#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/json_reader.hpp"

namespace adainfer::inline v0::detail::hf {

/// U+2581, which SentencePiece vocabularies write for a space.
inline constexpr std::string_view space_mark = "\xE2\x96\x81";

/// One step of a part of a tokenizer.json, for example a "Replace" of its normalizer.
struct Component {
    json::Field field;
    std::string type, path;  ///< path: where it stands, for messages
    std::string_view file;

    /// Throws Error (Unsupported): the file, the path, then the parts.
    template <class... Parts>
    [[noreturn]] void refuse(const Parts&... parts) const {
        fail(ErrorCode::Unsupported, "'", file, "': ", path, parts...);
    }

    [[noreturn]] void refuse_type(std::string_view supported) const {
        refuse(" has the type ", detail::quoted(type), "; supported: ", supported);
    }

    /// A member that is there and not null.
    [[nodiscard]] std::optional<json::Field> find(std::string_view key) const {
        const auto found = field.find(key);
        return found && !found->is_null() ? found : std::nullopt;
    }

    [[nodiscard]] bool flag(std::string_view key, bool otherwise) const {
        const auto found = find(key);
        return found ? found->boolean() : otherwise;
    }

    [[nodiscard]] const std::string& text(std::string_view key) const { return field.at(key).text(); }

    /// Whether it puts `to` for every `from`, a plain string.
    [[nodiscard]] bool replaces(std::string_view from, std::string_view to) const {
        const auto pattern = field.at("pattern").find("String");
        return pattern && pattern->text() == from && text("content") == to;
    }

    /// What it looks for, as a message shows it: "Regex '...'" or "String '...'".
    [[nodiscard]] std::string pattern() const {
        for (const auto& [kind, value] : field.at("pattern").members()) {
            const std::string shown = detail::quoted(kind);
            return shown.substr(1, shown.size() - 2) + ' ' + detail::quoted(value.text(), longest_regex);
        }
        return "nothing";
    }

    static constexpr std::size_t longest_regex = 600;  ///< that a message quotes whole
};

/// Appends the steps that a field describes: those of a "Sequence", which lists them under `list`, one by one; none for null.
inline void collect_components(const json::Field& field, const std::string& path, std::string_view file, std::string_view list,
                               std::vector<Component>& out) {
    if (field.is_null()) return;
    const std::string& type = field.at("type").text();
    if (type != "Sequence") {
        out.push_back({field, type, path, file});
        return;
    }
    std::size_t i = 0;
    for (const json::Field& element : field.at(list).elements()) {  // as deep as the parser lets a document nest
        const std::string where = path + '.' + std::string(list) + '[' + std::to_string(i++) + ']';
        collect_components(element, where, file, list, out);
    }
}

/// The steps of a part of the document, e.g. "normalizer"; none where it is missing or null. Throws Error (CorruptFile) where
/// it is no list of objects with a "type".
[[nodiscard]] inline std::vector<Component> components_of(const json::Field& document, std::string_view part,
                                                          std::string_view list, std::string_view file) {
    std::vector<Component> found;
    if (const auto field = document.find(part)) collect_components(*field, std::string(part), file, list, found);
    return found;
}

}  // namespace adainfer::inline v0::detail::hf
