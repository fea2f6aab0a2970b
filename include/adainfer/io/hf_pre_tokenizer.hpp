#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_component.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0::detail::hf {

/// Regular expressions that a "Split" is known to have, and the pre-tokenizer that cuts as they do.
struct KnownRegex {
    std::string_view regex, name;
    bool covers = true;  ///< whether there is never text between its matches
};

inline constexpr std::array known_regexes = {
    KnownRegex{R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "gpt-2"},
    KnownRegex{R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "gpt-2"},
    KnownRegex{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
               R"(\s*[\r\n]+|\s+(?!\S)|\s+)", "llama-bpe"},
    KnownRegex{R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|)"
               R"(\s*[\r\n]|\s+(?!\S)|\s+)", "llama-bpe"},
    KnownRegex{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
               R"(\s*[\r\n]+|\s+(?!\S)|\s+)", "qwen2"},
    KnownRegex{R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
               R"(\s*[\r\n]+|\s+(?!\S)|\s+)", "qwen35"},
    KnownRegex{R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
               R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
               R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)", "gpt-4o"},
    KnownRegex{R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
               R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
               R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)", "tekken"},
    KnownRegex{"[0-9][0-9][0-9]", "three-digits", false},
    KnownRegex{R"(\p{N}{1,3})", "number-groups", false},
    // U+4E00 to U+9FA5, U+3040 to U+309F, U+30A0 to U+30FF.
    KnownRegex{"[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+", "han-kana", false},
    KnownRegex{R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
               R"(\s*[\r\n]+|\s+(?!\S)|\s+)", "deepseek-v3-words", false},
};

/// A regular expression with its line ends escaped, which some files hold as such.
[[nodiscard]] inline std::string with_escaped_line_ends(std::string_view regex) {
    std::string escaped;
    for (const char c : regex) {
        if (c == '\r' || c == '\n') {
            escaped += c == '\r' ? "\\r" : "\\n";
        } else {
            escaped += c;
        }
    }
    return escaped;
}

/// Reads normalizer and pre_tokenizer into the fields of TokenizerData that say the same.
class TextReader {
  public:
    /// All must outlive this object. Sets nfc, pre, split_words and the fields of the space prefix of `data`. Throws Error
    /// (CorruptFile) for fields that are missing or of a wrong type, and (Unsupported), quoting it, for what Tokenizer does not
    /// do.
    TextReader(const json::Field& document, std::string_view file, TokenizerData& data) : data_(data) {
        for (const Component& c : components_of(document, "normalizer", "normalizers", file)) read_normalizer(c);
        for (const Component& c : components_of(document, "pre_tokenizer", "pretokenizers", file)) read_pre_tokenizer(c);
        if (byte_level_ == spaces_marked_) {
            fail(ErrorCode::Unsupported, "'", file, "': it ", byte_level_ ? "both spells bytes and" : "neither spells bytes nor",
                 " writes U+2581 for a space; supported: one of the two");
        }
        if (byte_level_ && data.pre.empty())
            fail(ErrorCode::Unsupported, "'", file, "': pre_tokenizer does not cut text into words");
        if (!byte_level_ && !data.pre.empty())
            fail(ErrorCode::Unsupported, "'", file, "': pre_tokenizer cuts text (", data.pre, ") but has no ByteLevel");
    }

    /// Whether tokens spell bytes, as GPT-2's; else U+2581 in them is a space, as in SentencePiece's.
    [[nodiscard]] bool byte_level() const noexcept { return byte_level_; }

  private:
    void read_normalizer(const Component& c) {
        if (c.type == "NFC") {
            data_.nfc = true;
        } else if (c.type == "Prepend") {
            const std::string& text = c.text("prepend");
            const bool space = text == space_mark || (text == " " && !spaces_marked_);
            if (!space || data_.add_space_prefix)
                c.refuse(" puts ", detail::quoted(text), " before a text; supported: U+2581, once");
            set_prefix(PrefixScheme::EveryPart);
        } else if (c.type == "Replace") {
            if (!c.replaces(" ", space_mark))
                c.refuse(" replaces ", c.pattern(), " by ", detail::quoted(c.text("content")), "; supported: a space by U+2581");
            spaces_marked_ = true;
        } else {
            c.refuse_type("NFC, Prepend, Replace, Sequence");
        }
    }

    void set_prefix(PrefixScheme scheme) {
        data_.add_space_prefix = true;
        data_.prefix_scheme = scheme;
    }

    void read_pre_tokenizer(const Component& c) {
        if (c.type == "ByteLevel") {
            read_byte_level(c);
        } else if (c.type == "Split") {
            read_split(c);
        } else if (c.type == "Digits") {
            add_stage(c, c.flag("individual_digits", false) ? "digit" : "digits");
        } else if (c.type == "Punctuation") {
            const auto behavior = c.find("behavior");
            const std::string how = behavior ? behavior->text() : "Isolated";
            if (how != "Isolated" && how != "Contiguous")
                c.refuse(" has the behavior ", detail::quoted(how), "; supported: Isolated, Contiguous");
            add_stage(c, how == "Isolated" ? "mark" : "marks");
        } else if (c.type == "Metaspace") {
            read_metaspace(c);
        } else {
            c.refuse_type("ByteLevel, Split, Digits, Punctuation, Metaspace, Sequence");
        }
    }

    void add_stage(const Component& c, std::string_view name) {
        // What comes behind ByteLevel sees the spelling of the bytes, where only ASCII is as in the text.
        if (byte_level_ && name != "three-digits") c.refuse(" stands behind ByteLevel");
        data_.pre.append(data_.pre.empty() ? "" : "+").append(name);
    }

    void read_byte_level(const Component& c) {
        if (byte_level_) c.refuse(" is the second ByteLevel");
        if (c.flag("add_prefix_space", true)) {
            if (!data_.pre.empty()) c.refuse(" puts a space before every piece that is cut before it");
            data_.add_space_prefix = true;
        }
        if (c.flag("use_regex", true)) add_stage(c, "gpt-2");
        byte_level_ = true;
    }

    void read_split(const Component& c) {
        const auto regex = c.field.at("pattern").find("Regex");
        if (!regex) {
            // Without spaces in the text there is nothing to cut.
            const auto text = c.field.at("pattern").find("String");
            if (text && text->text() == " " && spaces_marked_) return;
            c.refuse(" cuts at ", c.pattern(), "; supported: a space that the normalizer has replaced, or a regular expression");
        }
        const std::string escaped = with_escaped_line_ends(regex->text());
        for (const KnownRegex& known : known_regexes) {
            if (known.regex != escaped) continue;
            const std::string& behavior = c.text("behavior");
            const bool invert = c.flag("invert", false);
            if (!(behavior == "Isolated" && !invert) && !(known.covers && behavior == "Removed" && invert)) {
                c.refuse(" has the behavior ", detail::quoted(behavior), invert ? ", inverted" : "", "; supported: Isolated");
            }
            add_stage(c, known.name);
            return;
        }
        c.refuse(" has a regular expression that is not known: ", detail::quoted(regex->text(), Component::longest_regex));
    }

    void read_metaspace(const Component& c) {
        if (c.text("replacement") != space_mark)
            c.refuse(" writes ", detail::quoted(c.text("replacement")), " for a space; supported: U+2581");
        const auto scheme = c.find("prepend_scheme");
        const std::string when = scheme ? scheme->text() : c.flag("add_prefix_space", true) ? "always" : "never";
        if (when != "always" && when != "first" && when != "never")
            c.refuse(".prepend_scheme is ", detail::quoted(when), "; supported: always, first, never");
        // A prefix of the normalizer makes every text begin with a space.
        if (when != "never" && !data_.add_space_prefix)
            set_prefix(when == "first" ? PrefixScheme::StartUnlessSpace : PrefixScheme::EveryPartUnlessSpace);
        spaces_marked_ = true;
        data_.split_words = c.flag("split", true);
    }

    TokenizerData& data_;
    bool byte_level_ = false, spaces_marked_ = false;
};

}  // namespace adainfer::inline v0::detail::hf
