#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/generate/chat_expression.hpp"
#include "adainfer/generate/chat_source.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// A template as a tree.
struct Node {
    struct Branch {
        Tokens condition;  ///< empty: else
        std::vector<Node> body;
    };
    enum class Kind { Output, Set, If, For } kind;
    Tokens code;                   ///< what is put out; name = value; name in values
    std::vector<Branch> branches;  ///< of If; the one body of For
};

/// The tree of a template. Knows if, for, set and output; nothing else is needed to put text together.
class TreeReader {
  public:
    /// Nothing where the template holds something else, or nests deeper than 24 blocks.
    [[nodiscard]] static std::optional<std::vector<Node>> read(std::string_view source) {
        const auto pieces = cut(source);
        if (!pieces) return std::nullopt;
        TreeReader reader{*pieces};
        std::vector<Node> nodes = reader.body(0);
        if (reader.failed_ || reader.next_ != pieces->size()) return std::nullopt;
        return nodes;
    }

  private:
    explicit TreeReader(const std::vector<Piece>& pieces) : pieces_(pieces) {}

    static constexpr std::size_t deepest = 24;

    /// Up to the end, or to an elif, else or end tag, whose tokens stand in end_ then.
    std::vector<Node> body(std::size_t depth) {
        std::vector<Node> nodes;
        end_.clear();
        while (!failed_ && next_ < pieces_.size()) {
            const Piece& piece = pieces_[next_++];
            if (piece.kind == Piece::Kind::Text) {
                nodes.push_back({Node::Kind::Output, {{Token::Kind::String, piece.text}}, {}});
                continue;
            }
            const std::optional<Tokens> tokens = read_tokens(piece.text);
            failed_ = failed_ || !tokens || tokens->empty() || depth > deepest;
            if (failed_) break;
            if (piece.kind == Piece::Kind::Output) {
                nodes.push_back({Node::Kind::Output, tidied(*tokens), {}});
                continue;
            }
            const std::string word = tokens->front().is_word() ? tokens->front().text : std::string();
            const Tokens rest = tidied(TokenSpan(*tokens).subspan(1));
            if (word == "set") {
                nodes.push_back({Node::Kind::Set, rest, {}});
            } else if (word == "for") {
                nodes.push_back({Node::Kind::For, rest, {}});
                nodes.back().branches.push_back({{}, body(depth + 1)});
                failed_ = failed_ || end_.empty() || !end_.front().is("endfor");
            } else if (word == "if") {
                nodes.push_back({Node::Kind::If, {}, {}});
                Tokens condition = rest;
                bool last = false;
                while (!failed_) {
                    nodes.back().branches.push_back({condition, body(depth + 1)});
                    failed_ = failed_ || end_.empty() || (last && !end_.front().is("endif"));
                    if (failed_ || end_.front().is("endif")) break;
                    last = end_.front().is("else");
                    condition = tidied(TokenSpan(end_).subspan(1));
                    failed_ = last != condition.empty() || (!last && !end_.front().is("elif"));
                }
            } else if (word == "elif" || word == "else" || word == "endif" || word == "endfor") {
                end_ = *tokens;
                failed_ = depth == 0;
                return nodes;
            } else if (word != "generation" && word != "endgeneration") {  // these mark a part for training
                failed_ = true;
            }
            end_.clear();
        }
        return nodes;
    }

    const std::vector<Piece>& pieces_;
    std::size_t next_ = 0;
    bool failed_ = false;
    Tokens end_;
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
