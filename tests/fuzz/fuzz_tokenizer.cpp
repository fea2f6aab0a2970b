// libFuzzer target: any vocabulary is an Error or a tokenizer, and any text comes back from it.
//
// The bytes: a model (0 to 3), two of flags, then lines up to an empty one: "m" and a merge, or a letter that says the type
// and score and a token; a charsmap in the line after it, and the text.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/tokenize/stream_decoder.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

std::string_view take_line(std::string_view& rest) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(line.size() < rest.size() ? line.size() + 1 : line.size());
    return line;
}

void add_bytes(TokenizerData& data) {
    constexpr std::string_view hex = "0123456789ABCDEF";
    for (std::size_t b = 0; b < 256; ++b) {
        const char byte = static_cast<char>(static_cast<unsigned char>(b));
        const bool spelled = data.model == "gpt2";
        data.tokens.push_back(spelled ? detail::byte_spelling::spelled({&byte, 1})
                                      : std::string("<0x") + hex[b / 16] + hex[b % 16] + ">");
        data.token_types.push_back(spelled ? 1 : 6);
        data.scores.push_back(0);
    }
}

TokenizerData read(std::string_view& rest) {
    constexpr std::string_view models[] = {"gpt2", "llama", "t5", "gemma4"};
    TokenizerData data;
    data.model = models[static_cast<unsigned char>(rest[0]) % 4U];
    const unsigned flags = static_cast<unsigned char>(rest[1]) + 256U * static_cast<unsigned char>(rest[2]);
    rest.remove_prefix(3);
    data.add_space_prefix = (flags & 1U) != 0;
    data.prefix_scheme = static_cast<PrefixScheme>((flags >> 1U) % 3U);
    data.remove_extra_whitespace = (flags & 8U) != 0;
    data.split_words = (flags & 16U) != 0;
    data.byte_fallback = (flags & 32U) == 0;
    data.fuse_unknown = (flags & 64U) == 0;
    data.ignore_merges = (flags & 128U) != 0;
    data.nfc = (flags & 256U) != 0;
    if ((flags & 512U) == 0) add_bytes(data);
    if ((flags & 1024U) != 0) data.unknown = 0;
    while (!rest.empty()) {
        std::string_view line = take_line(rest);
        if (line.empty()) break;
        const unsigned kind = static_cast<unsigned char>(line[0]);
        line.remove_prefix(1);
        if (kind == 'm') {
            data.merges.emplace_back(line);
            continue;
        }
        if (kind % 16U == 15U) {
            data.added.push_back({static_cast<TokenId>(data.tokens.size()), (kind & 16U) != 0, (kind & 32U) != 0,
                                  (kind & 64U) != 0, (kind & 128U) != 0});
        }
        data.tokens.emplace_back(line);
        data.token_types.push_back(static_cast<std::int32_t>(kind % 7U));
        data.scores.push_back(-static_cast<double>(kind / 7U));
    }
    if ((flags & 2048U) != 0) data.charsmap = take_line(rest);
    return data;
}

/// Spaces and U+2581 are one to SentencePiece's models.
std::string comparable(const TokenizerData& data, std::string_view text) {
    if (data.model == "gpt2") return std::string(text);
    std::string out;
    detail::tokenizing::append_unescaped(out, text);
    return out;
}

/// A user-defined token stands for its text as it is, so one that is spelled in bytes and made by merges comes back as that
/// spelling (llama.cpp does the same).
bool spells_bytes_literally(const TokenizerData& data) {
    if (data.model != "gpt2") return false;
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        std::string bytes;
        const bool spelling = detail::byte_spelling::append_bytes(bytes, data.tokens[i]);
        if (data.token_types[i] == static_cast<std::int32_t>(TokenType::UserDefined) && spelling && bytes != data.tokens[i]) return true;
    }
    return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    if (size < 3) return 0;
    std::string_view text(reinterpret_cast<const char*>(bytes), size);
    const TokenizerData data = read(text);
    try {
        const Tokenizer tokenizer(data);
        const bool whole = data.tokens.size() >= 256 && data.byte_fallback && data.added.empty() && data.charsmap.empty() &&
                           !data.nfc && !data.remove_extra_whitespace && !data.add_space_prefix &&
                           !spells_bytes_literally(data);
        for (const bool special : {false, true}) {
            for (const InvalidUtf8 invalid : {InvalidUtf8::Replace, InvalidUtf8::Keep}) {
                const std::vector<TokenId> ids = tokenizer.encode(text, {.parse_special = special, .invalid_utf8 = invalid});
                StreamDecoder decoder(tokenizer);
                for (const TokenId id : ids) {
                    require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
                    require(special || !tokenizer.is_special(id) || id == data.unknown);
                    static_cast<void>(decoder.push(id));
                }
                static_cast<void>(decoder.finish());
                if (whole && invalid == InvalidUtf8::Keep) {
                    require(comparable(data, tokenizer.decode(ids)) == comparable(data, text));
                }
            }
        }
    } catch (const Error&) {
    }
    return 0;
}
