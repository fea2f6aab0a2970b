#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/generate/chat_expression.hpp"
#include "adainfer/generate/chat_facts.hpp"
#include "adainfer/generate/chat_tree.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// What is left of a template where plain text is rendered (see Facts), in one spelling: conditions that are known are gone with
/// the parts they shut out, neighbouring outputs are one, sets that nothing reads are gone and neighbours among them sorted.
class Outline {
  public:
    /// The outline as text; empty for a template that holds anything but if, for, set and output.
    [[nodiscard]] static std::string of(std::string_view source) {
        if (source.size() > largest) return {};
        const auto tree = TreeReader::read(source);
        if (!tree) return {};
        Outline outline;
        std::vector<Node> nodes;
        outline.simplify(*tree, true, nodes);
        if (outline.failed_) return {};
        for (std::size_t round = 0; round < 8; ++round) drop_unread(nodes);
        std::string text;
        write(nodes, text);
        return text;
    }

  private:
    static constexpr std::size_t largest = std::size_t{1} << 18U, most_names = 100;

    void simplify(const std::vector<Node>& nodes, bool certain, std::vector<Node>& out) {
        for (const Node& node : nodes) {
            if (failed_) return;
            switch (node.kind) {
                case Node::Kind::Output: out.push_back({node.kind, facts_.substituted(node.code), {}}); break;
                case Node::Kind::Set: set(node, certain, out); break;
                case Node::Kind::If: choose(node, certain, out); break;
                case Node::Kind::For: loop(node, out); break;
            }
        }
    }

    void set(const Node& node, bool certain, std::vector<Node>& out) {
        const Tokens& code = node.code;
        const bool plain = code.size() >= 3 && code[0].is_word() && code[1].is("=");
        const bool field = code.size() >= 5 && code[0].is_word() && code[1].is(".") && code[3].is("=");
        failed_ = failed_ || (!plain && !field) || code[0].is("message") || code[0].is("loop") || facts_.size() > most_names;
        if (failed_) return;
        const std::size_t first = plain ? 2 : 4;
        Node kept{node.kind, Tokens(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(first)), {}};
        const Tokens value = facts_.substituted(TokenSpan(code).subspan(first));
        kept.code.insert(kept.code.end(), value.begin(), value.end());
        out.push_back(std::move(kept));
        if (!plain) return;
        Facts::Value known{Facts::Kind::Perhaps, {}};
        if (certain && value.size() == 1) {
            const Token& only = value[0];
            if (only.is_string()) known = {Facts::Kind::String, only.text};
            else if (only.is("true") || only.is("True")) known.kind = Facts::Kind::True;
            else if (only.is("false") || only.is("False")) known.kind = Facts::Kind::False;
            else if (only.is("none") || only.is("None")) known.kind = Facts::Kind::None;
            else if (facts_.is_given(only.text) && only.text != code[0].text) known = {Facts::Kind::Alias, only.text};
        }
        facts_.set(code[0].text, known);
    }

    void choose(const Node& node, bool certain, std::vector<Node>& out) {
        Node kept{node.kind, {}, {}};
        Facts::Texts known_false;
        for (const Node::Branch& branch : node.branches) {
            Condition condition{true, {}, {}, false};
            if (!branch.condition.empty()) condition = facts_.simplified(branch.condition, known_false);
            if (condition.value == false) continue;
            if (condition.value && kept.branches.empty()) return simplify(branch.body, certain, out);
            kept.branches.push_back({std::move(condition.tokens), {}});
            simplify(branch.body, false, kept.branches.back().body);
            if (condition.value) break;
            known_false.insert(condition.alternatives.begin(), condition.alternatives.end());
        }
        if (!kept.branches.empty()) out.push_back(std::move(kept));
    }

    void loop(const Node& node, std::vector<Node>& out) {
        const auto in = std::find_if(node.code.begin(), node.code.end(), [](const Token& token) { return token.is("in"); });
        failed_ = failed_ || in == node.code.end() || facts_.size() > most_names;
        if (failed_) return;
        const TokenSpan values = TokenSpan(node.code).subspan(static_cast<std::size_t>(in - node.code.begin()) + 1);
        if (facts_.simplified(values).value == false) return;
        const auto set_targets = [&](Facts::Kind kind) {
            for (auto name = node.code.begin(); name != in; ++name) {
                if (name->is_word()) facts_.set(name->text, {kind, {}});
            }
        };
        set_targets(Facts::Kind::Given);
        Node kept{node.kind, Tokens(node.code.begin(), in + 1), {{}}};
        const Tokens over = facts_.substituted(values);
        kept.code.insert(kept.code.end(), over.begin(), over.end());
        simplify(node.branches[0].body, false, kept.branches[0].body);
        set_targets(Facts::Kind::Perhaps);
        out.push_back(std::move(kept));
    }

    /// How often each name is read; a name that is only set counts 0.
    static void count_reads(const std::vector<Node>& nodes, std::map<std::string, std::size_t>& reads) {
        const auto count = [&](TokenSpan tokens) {
            for (const Token& token : tokens) {
                if (token.is_word()) ++reads[token.text];
            }
        };
        for (const Node& node : nodes) {
            count(TokenSpan(node.code).subspan(node.kind == Node::Kind::Set ? 1 : 0));
            for (const Node::Branch& branch : node.branches) {
                count(branch.condition);
                count_reads(branch.body, reads);
            }
        }
    }

    static void drop_unread(std::vector<Node>& nodes) {
        std::map<std::string, std::size_t> reads;
        count_reads(nodes, reads);
        drop(nodes, reads);
    }

    static void drop(std::vector<Node>& nodes, const std::map<std::string, std::size_t>& reads) {
        for (Node& node : nodes) {
            for (Node::Branch& branch : node.branches) drop(branch.body, reads);
            if (node.kind != Node::Kind::If) continue;
            while (!node.branches.empty() && node.branches.back().body.empty()) node.branches.pop_back();
        }
        std::erase_if(nodes, [&](const Node& node) {
            if (node.kind == Node::Kind::Set) return !reads.contains(node.code[0].text);
            return node.kind == Node::Kind::If && node.branches.empty();
        });
    }

    /// Whether an expression may stand beside a + as it is.
    [[nodiscard]] static bool is_sum(TokenSpan tokens) {
        std::size_t depth = 0;
        for (const Token& token : tokens) {
            if (token.is("(") || token.is("[")) ++depth;
            if (token.is(")") || token.is("]")) --depth;
            if (token.is("raise_exception")) return false;
            if (depth > 0 || token.is_string()) continue;
            for (const std::string_view word : {"if", "or", "and", "not", "in", "is", "==", "!=", "<", ">", "<=", ">="}) {
                if (token.is(word)) return false;
            }
        }
        return true;
    }

    static void write(const std::vector<Node>& nodes, std::string& text) {
        for (std::size_t i = 0; i < nodes.size();) {
            const Node& node = nodes[i];
            std::size_t end = i + 1;
            if (node.kind == Node::Kind::Output) {
                Tokens sum = node.code;
                while (end < nodes.size() && nodes[end].kind == node.kind && is_sum(node.code) && is_sum(nodes[end].code)) {
                    if (!sum.empty()) sum.push_back({Token::Kind::Operator, "+"});
                    sum.insert(sum.end(), nodes[end].code.begin(), nodes[end].code.end());
                    ++end;
                }
                text.append("{{").append(written(tidied(sum))).append("}}");
            } else if (node.kind == Node::Kind::Set) {
                while (end < nodes.size() && nodes[end].kind == node.kind) ++end;
                write_sets({nodes.data() + i, end - i}, text);
            } else if (node.kind == Node::Kind::For) {
                text.append("{%for ").append(written(node.code)).append("%}");
                write(node.branches[0].body, text);
                text.append("{%endfor%}");
            } else {
                bool first = true;
                for (const Node::Branch& branch : node.branches) {
                    if (branch.condition.empty()) text.append("{%else%}");
                    else text.append(first ? "{%if " : "{%elif ").append(written(branch.condition)).append("%}");
                    write(branch.body, text);
                    first = false;
                }
                text.append("{%endif%}");
            }
            i = end;
        }
    }

    /// Sorted, unless their order matters: one reads what another sets, or the same name is set twice.
    static void write_sets(std::span<const Node> sets, std::string& text) {
        std::vector<std::string> lines;
        std::map<std::string, std::size_t> reads, writes;
        for (const Node& node : sets) {
            const Tokens& code = node.code;
            const bool field = code[1].is(".");
            lines.push_back(written(code));
            ++writes[field ? code[0].text + "." + code[2].text : code[0].text];
            if (field) ++writes[code[0].text + "."];
            for (const Token& token : TokenSpan(code).subspan(field ? 4 : 2)) {
                if (token.is_word()) ++reads[token.text];
            }
        }
        const bool sortable = std::none_of(sets.begin(), sets.end(), [&](const Node& node) {
            const std::string& name = node.code[0].text;
            const bool field = node.code[1].is(".");
            return reads.contains(name) || writes[field ? name + "." + node.code[2].text : name] > 1 ||
                   (!field && writes.contains(name + "."));
        });
        if (sortable) std::sort(lines.begin(), lines.end());
        for (const std::string& line : lines) text.append("{%set ").append(line).append("%}");
    }

    Facts facts_;
    bool failed_ = false;
};

}  // namespace detail::chat

}  // namespace adainfer::inline v0
