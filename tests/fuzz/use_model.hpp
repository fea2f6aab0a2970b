#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/backend/reference.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/model/config.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/prediction.hpp"
#include "adainfer/model/rope.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tokenize/stream_decoder.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/tokenize/utf8.hpp"
#include "checks.hpp"

// What is done with whatever the readers of model files let through.

namespace fuzzing {

using namespace adainfer;

/// Three positions through all layers. Numbers that overflow on the way are an Error; nothing else is.
inline void run(ModelWeights weights) {
    constexpr std::size_t largest = std::size_t{1} << 17U;  // bytes of matrices: what a run has time for
    validate(weights.config, "'again'");
    require(weights.layers.size() == weights.config.layers && !weights.identity.empty());
    for (const RopeConfig* const rope : {&weights.config.rope, &weights.config.window_rope}) {
        for (const double frequency : rope_frequencies(*rope)) require(frequency >= 0);
    }
    std::size_t bytes = weights.head.weight.bytes();
    for (std::size_t layer = 0; layer < weights.layers.size(); ++layer) bytes += weights.layer_bytes(layer);
    if (bytes > largest) return;
    const std::size_t vocabulary = weights.config.vocabulary, capacity = (std::min)(weights.config.context, std::size_t{3});
    const Model<ReferenceBackend> model(std::move(weights));
    Session session = model.new_session(capacity);
    try {
        TokenId next = static_cast<TokenId>(vocabulary - 1);
        while (session.length() < session.capacity()) {
            const Prediction prediction = model.decode(session, next);
            next = prediction.token;
            require(next >= 0 && static_cast<std::size_t>(next) < vocabulary && prediction.logits.size() == vocabulary);
        }
    } catch (const Error& error) {
        require(error.code() == ErrorCode::NotFinite);
    }
}

/// Encodes a text every way there is; every id is a token, and what is streamed back is UTF-8.
inline void encode_and_decode(const Tokenizer& tokenizer, std::string_view text) {
    for (const bool special : {true, false}) {
        for (const InvalidUtf8 invalid : {InvalidUtf8::Replace, InvalidUtf8::Keep}) {
            EncodeOptions options;
            options.parse_special = special;
            options.invalid_utf8 = invalid;
            options.add_bos = tokenizer.adds_bos();
            options.add_eos = tokenizer.adds_eos();
            const std::vector<TokenId> ids = tokenizer.encode(text, options);
            static_cast<void>(tokenizer.decode(ids, special));
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

}  // namespace fuzzing
