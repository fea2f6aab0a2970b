// libFuzzer target: any bytes are either a tokenizer.json, whose tokenizer encodes and decodes, or an Error.
//     clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include tests/fuzz/fuzz_hf_tokenizer.cpp -o fuzz_hf
//     ./fuzz_hf -max_total_time=180 corpus/ tests/fuzz/hf_tokenizer/

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_tokenizer.hpp"
#include "adainfer/tokenize/stream_decoder.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/tokenize/utf8.hpp"

namespace {

using namespace adainfer;

void require(bool condition) {
    if (!condition) std::abort();
}

/// The tokenizer of a text, or nothing where it is refused.
std::optional<Tokenizer> read(std::string_view text) {
    try {
        TokenizerData data = detail::hf::read_tokenizer_json(text, "fuzzed");
        require(data.tokens.size() == data.token_types.size());
        require(data.tokens.size() <= text.size() * 2 + 65536);
        return Tokenizer(std::move(data));
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// Encodes a text every way there is; every id is a token.
void use(const Tokenizer& tokenizer, std::string_view text) {
    for (const bool special : {true, false}) {
        for (const InvalidUtf8 invalid : {InvalidUtf8::Replace, InvalidUtf8::Keep}) {
            EncodeOptions options;
            options.parse_special = special;
            options.invalid_utf8 = invalid;
            options.add_bos = tokenizer.adds_bos();
            options.add_eos = tokenizer.adds_eos();
            const std::vector<TokenId> ids = tokenizer.encode(text, options);
            (void)tokenizer.decode(ids, special);
            StreamDecoder stream(tokenizer, special, DecodeFrom::Start);
            std::string streamed;
            for (const TokenId id : ids) {
                require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size());
                streamed += stream.push(id);
            }
            streamed += stream.finish();
            require(detail::utf8::find_invalid(streamed.data(), streamed.data() + streamed.size()) ==
                    streamed.data() + streamed.size());
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto tokenizer = read(text);
    if (!tokenizer) return 0;
    use(*tokenizer, "a b  ab\n\t12345 don't <s>\xE2\x96\x81 e\xCC\x81 \xED\x95\x9C \xFF\xC3 \xF0\x9F\x98\x80</s> ");
    use(*tokenizer, std::string_view(text).substr(0, 512));
    for (std::size_t id = 0; id < tokenizer->vocab_size(); ++id) (void)tokenizer->token_bytes(static_cast<TokenId>(id));
    return 0;
}
