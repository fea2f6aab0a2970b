// libFuzzer target: any bytes are either a chat template of a known family, which then writes conversations, or an Error.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/generate/chat.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// What the template makes of a conversation; nothing where it does not take one in this order of roles.
std::optional<std::string> rendered(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, bool open) {
    try {
        return chat.render(messages, open);
    } catch (const Error& error) {
        require(error.code() == ErrorCode::InvalidArgument);
        return std::nullopt;
    }
}

/// Conversations in every order of roles, up to three messages; the last question always stands in the text as it was asked.
void use(const ChatTemplate& chat, const std::string& asked) {
    require(!chat.family().empty());
    static_cast<void>(chat.stop_text());
    const std::vector<std::string> roles{"system", "user", "assistant"};
    std::size_t taken = 0;
    for (std::size_t order = 0; order < 27; ++order) {
        std::vector<ChatMessage> messages{{roles[order % 3], "Be brief."}, {roles[order / 3 % 3], " Hi\n"}, {roles[order / 9], asked}};
        for (; !messages.empty(); messages.erase(messages.begin())) {
            for (const bool open : {true, false}) {
                const auto text = rendered(chat, messages, open);
                if (!text) continue;
                ++taken;
                require(messages.back().role != "user" || text->find(asked) != std::string::npos);
                require(rendered(chat, messages, open) == text);
            }
        }
    }
    require(taken > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string source(reinterpret_cast<const char*>(data), size);
    std::optional<ChatTemplate> chat;
    try {
        chat.emplace(source, ChatTokens{"<s>", "</s>"});
    } catch (const Error& error) {
        require(error.code() == ErrorCode::Unsupported);
        require(!knows_chat_template(source));
        fuzzing::check_printable(error);
        return 0;
    }
    require(knows_chat_template(source));
    use(*chat, "Why?");
    // What somebody asks may look like a template, or like the template's own signs.
    use(*chat, "x" + source.substr(0, 256) + "x");
    return 0;
}
