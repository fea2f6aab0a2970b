#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/generate/chat_message.hpp"

namespace adainfer::inline v0 {

namespace detail::chat {

/// A recognised template.
struct Known {
    std::string_view family;
    std::string stop;  ///< the text of the token that ends the assistant's turn; empty: eos
    Render render;
};

/// Reads an outline from left to right. A family is recognised where its reader reaches the end: whatever it does not expect
/// makes the template an unknown one, so nothing is rendered otherwise than the template says.
class OutlineReader {
  public:
    explicit OutlineReader(std::string_view outline) : rest_(outline) {}

    [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }

    /// Steps over `part` where it comes next.
    [[nodiscard]] bool take(std::string_view part) {
        if (!rest_.starts_with(part)) return false;
        rest_.remove_prefix(part.size());
        return true;
    }

    /// Steps over `before`, any text inside a string, and `after`; `value` becomes what that text stands for. Where they do not
    /// come next nothing changes.
    [[nodiscard]] bool take(std::string_view before, std::string& value, std::string_view after) {
        if (!rest_.starts_with(before)) return false;
        std::string text;
        for (std::size_t i = before.size(); i < rest_.size(); ++i) {
            if (rest_.substr(i).starts_with(after)) {
                rest_.remove_prefix(i + after.size());
                value = std::move(text);
                return true;
            }
            if (rest_[i] == '\'') return false;
            const bool escape = rest_[i] == '\\' && i + 1 < rest_.size();
            if (escape) ++i;
            text += escape && rest_[i] == 'n' ? '\n' : rest_[i];
        }
        return false;
    }

  private:
    std::string_view rest_;
};

/// The check that user and assistant alternate.
inline constexpr std::string_view alternation_check =
    "{%if (message.role=='user')!=(loop.index0%2==0)%}{{raise_exception()}}{%endif%}";

}  // namespace detail::chat

}  // namespace adainfer::inline v0
