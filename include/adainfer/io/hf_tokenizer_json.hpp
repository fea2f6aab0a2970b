#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "adainfer/core/error.hpp"
#include "adainfer/io/json_reader.hpp"

// Reads the text of a tokenizer.json. Its vocabulary and merges make up nearly all of it (up to a million strings), so they
// go straight into arrays while the parser runs; only the rest becomes a document.

namespace adainfer::inline v0::detail::hf {

/// What a tokenizer.json says, as it says it.
struct TokenizerJson {
    struct Piece {
        std::string text;
        std::uint64_t id = 0;  ///< unigram: its place in the list
        double score = 0.0;    ///< unigram only
    };

    json::Document rest{};              ///< the document without model.vocab and model.merges
    std::vector<Piece> vocabulary{};    ///< in the order of the file
    std::vector<std::string> merges{};  ///< "left right"
    bool has_vocabulary = false;
    bool unigram = false;  ///< the vocabulary is a list of [text, score]
    bool has_merges = false;
};

/// Receives the events of the parser. Throws Error (CorruptFile, Unsupported) as soon as something is wrong.
class TokenizerJsonReader : public nlohmann::json_sax<json::Value> {
  public:
    TokenizerJsonReader(std::string_view file, TokenizerJson& out) : file_(file), out_(out) {}

    bool null() override { return scalar(nullptr, "null"); }
    bool boolean(bool value) override { return scalar(value, "a boolean"); }
    bool number_integer(number_integer_t value) override { return scalar(value, "a negative number"); }
    bool number_unsigned(number_unsigned_t value) override {
        if (part_ == Part::IdByText && depth_ == 1) return end_piece(value, 0.0);
        if (part_ == Part::TextAndScore && depth_ == 2 && fields_ == 1) return score(static_cast<double>(value));
        return scalar(value, "a number");
    }
    bool number_float(number_float_t value, const string_t&) override {
        if (part_ == Part::TextAndScore && depth_ == 2 && fields_ == 1) return score(value);
        return scalar(value, "a number");
    }
    bool string(string_t& value) override {
        if (part_ == Part::TextAndScore && depth_ == 2 && fields_ == 0) {
            text_ = std::move(value);
            ++fields_;
            return true;
        }
        if (part_ == Part::Merges && depth_ == 1) return merge(value);
        if (part_ == Part::Merges && depth_ == 2 && fields_ < 2) return merge_side(value);
        return scalar(std::move(value), "a string");
    }
    bool binary(binary_t&) override { wrong("binary data"); }  // JSON has none

    bool start_object(std::size_t) override {
        if (part_ != Part::Rest && depth_ > 0) wrong("an object");
        if (part_ == Part::Vocabulary) return begin(Part::IdByText);
        if (part_ == Part::Merges) wrong("an object");
        return open(json::Value::object());
    }
    bool end_object() override { return part_ == Part::IdByText ? end() : close(); }

    bool start_array(std::size_t) override {
        if (part_ == Part::Vocabulary) return begin(Part::TextAndScore);
        if (part_ == Part::Merges && depth_ == 0) return begin(Part::Merges);
        if ((part_ == Part::TextAndScore || part_ == Part::Merges) && depth_ == 1) {
            ++depth_;
            fields_ = 0;
            return true;
        }
        if (part_ != Part::Rest) wrong("an array");
        return open(json::Value::array());
    }
    bool end_array() override {
        if (part_ == Part::Rest) return close();
        if (--depth_ == 0) return end();
        if (fields_ != 2) wrong("a list that is too short");
        if (part_ == Part::Merges) out_.merges.push_back(std::move(text_));
        return true;
    }

    bool key(string_t& value) override {
        if (part_ == Part::IdByText) {
            text_ = std::move(value);
            return true;
        }
        json::Value& object = *open_.back();
        if (object.contains(value) || (is_model() && value == "vocab" && out_.has_vocabulary) ||
            (is_model() && value == "merges" && out_.has_merges)) {
            fail(ErrorCode::CorruptFile, "'", file_, "': the key ", detail::quoted(value), " stands twice in an object");
        }
        if (is_model() && value == "vocab") part_ = Part::Vocabulary;
        if (is_model() && value == "merges") part_ = Part::Merges;
        key_ = std::move(value);
        return true;
    }

    bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
        fail(ErrorCode::CorruptFile, "'", file_, "': not valid JSON: ", json::reason(error));
    }

  private:
    /// What the parser is in: Vocabulary and Merges from their key on, with depth_ 0 before their bracket.
    enum class Part { Rest, Vocabulary, IdByText, TextAndScore, Merges };

    static constexpr std::size_t max_depth = 32;

    [[nodiscard]] bool is_model() const { return open_.size() == 2 && in_model_; }

    bool begin(Part part) {
        part_ = part;
        depth_ = 1;
        if (part == Part::Merges) {
            out_.has_merges = true;
        } else {
            out_.has_vocabulary = true;
            out_.unigram = part == Part::TextAndScore;
        }
        return true;
    }

    bool end() {
        part_ = Part::Rest;
        depth_ = 0;
        return true;
    }

    bool end_piece(std::uint64_t id, double score) {
        out_.vocabulary.push_back({std::move(text_), id, score});
        return true;
    }

    bool score(double value) {
        ++fields_;
        return end_piece(out_.vocabulary.size(), value);
    }

    bool merge(const std::string& text) {
        if (!text.starts_with("#version")) out_.merges.push_back(text);
        return true;
    }

    bool merge_side(const std::string& text) {
        if (text.empty() || text.find(' ') != std::string::npos) {
            fail(text.empty() ? ErrorCode::CorruptFile : ErrorCode::Unsupported, "'", file_, "': merge ", out_.merges.size(),
                 " has the token ", detail::quoted(text), "; tokens of merges with nothing or with spaces in them are not read");
        }
        text_ = fields_++ == 0 ? text : text_ + ' ' + text;
        return true;
    }

    template <class T>
    bool scalar(T&& value, std::string_view what) {
        if (part_ != Part::Rest) wrong(what);
        place(json::Value(std::forward<T>(value)));
        return true;
    }

    /// Puts a value where the parser stands in the document.
    json::Value& place(json::Value value) {
        if (open_.empty()) return out_.rest.root() = std::move(value);
        json::Value& parent = *open_.back();
        if (parent.is_array()) {
            parent.push_back(std::move(value));
            return parent.back();
        }
        return parent[key_] = std::move(value);
    }

    bool open(json::Value value) {
        if (open_.size() == max_depth) fail(ErrorCode::CorruptFile, "'", file_, "': nested deeper than ", max_depth, " levels");
        if (open_.size() == 1) in_model_ = open_[0]->is_object() && value.is_object() && key_ == "model";
        open_.push_back(&place(std::move(value)));  // stays in place: nothing is added to its parents while it is open
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    [[noreturn]] void wrong(std::string_view found) const {
        if (part_ == Part::Merges) {
            fail(ErrorCode::CorruptFile, "'", file_, "': model.merges must be a list of \"left right\" or [left, right], found ",
                 found, " at merge ", out_.merges.size());
        }
        fail(ErrorCode::CorruptFile, "'", file_, "': model.vocab must be an object of ids by text or a list of [text, score], ",
             "found ", found, " at token ", out_.vocabulary.size());
    }

    std::string_view file_;
    TokenizerJson& out_;
    std::vector<json::Value*> open_;
    std::string key_;
    bool in_model_ = false;  ///< the object at depth 2 is the document's "model"
    Part part_ = Part::Rest;
    std::size_t depth_ = 0;   ///< of brackets inside the vocabulary or the merges
    std::size_t fields_ = 0;  ///< of the innermost list there, so far
    std::string text_;
};

/// Parses the text of a tokenizer.json. Throws Error (CorruptFile) for what json::parse() refuses, for a repeated key, and for
/// a vocabulary or merges of another form; (Unsupported) for merges of tokens with spaces in them. Repeated tokens come through.
[[nodiscard]] inline TokenizerJson parse_tokenizer_json(std::string_view text, std::string_view file) {
    json::check_text(text, file);
    TokenizerJson result;
    TokenizerJsonReader reader(file, result);
    json::Value::sax_parse(text.begin(), text.end(), &reader);
    return result;
}

}  // namespace adainfer::inline v0::detail::hf
