// libFuzzer target: any bytes are either a tokenizer.json, whose tokenizer encodes and decodes, or an Error.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_tokenizer.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "checks.hpp"
#include "use_model.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// The tokenizer of a text, or nothing where it is refused.
std::optional<Tokenizer> read(std::string_view text) {
    try {
        TokenizerData data = detail::hf::read_tokenizer_json(text, "fuzzed");
        require(data.tokens.size() == data.token_types.size());
        require(data.tokens.size() <= text.size() * 2 + 65536);
        return Tokenizer(std::move(data));
    } catch (const Error& error) {
        fuzzing::check_printable(error);
        return std::nullopt;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto tokenizer = read(text);
    if (!tokenizer) return 0;
    fuzzing::encode_and_decode(*tokenizer, "a b  ab\n\t12345 don't <s>\xE2\x96\x81 e\xCC\x81 \xED\x95\x9C \xFF\xC3 \xF0\x9F\x98\x80</s> ");
    fuzzing::encode_and_decode(*tokenizer, std::string_view(text).substr(0, 512));
    for (std::size_t id = 0; id < tokenizer->vocab_size(); ++id) (void)tokenizer->token_bytes(static_cast<TokenId>(id));
    return 0;
}
