#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/early_exit/policies.hpp"
#include "adainfer/generate/conversation.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/random_model.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_conversation {

using namespace adainfer;

namespace {

using Dense = Model<EigenBackend>;

const std::string chatml =
    R"({{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + )"
    R"('<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

Tokenizer make_tokenizer(const std::string& chat_template = chatml) {
    TokenizerData data = test_vocabulary::data();
    data.chat_template = chat_template;
    return Tokenizer(data);
}

Dense make_model(const Tokenizer& tokenizer, std::uint64_t seed = 1, std::size_t context = 600) {
    RandomModelOptions options = tiny::options();
    options.vocabulary = tokenizer.vocab_size();
    options.context = context;
    options.seed = seed;
    return Dense(make_random_model(options));
}

/// What comes after the tokens that a conversation's session holds: the same as after a fresh prefill of these tokens.
template <class M>
void check_history(const M& model, const Conversation<M>& conversation) {
    Session kept = conversation.session().clone(), fresh = model.new_session();
    const std::vector<TokenId> tokens(conversation.tokens().begin(), conversation.tokens().end());
    REQUIRE(kept.length() == tokens.size());
    model.prefill(fresh, tokens);
    const TokenId probe = test_vocabulary::id_of("ab");
    const Prediction after_kept = model.predict(kept, {&probe, 1});
    const Prediction after_fresh = model.predict(fresh, {&probe, 1});
    CHECK(after_kept.token == after_fresh.token);
    CHECK(tiny::difference(after_kept.logits, after_fresh.logits) < 1e-4);
}

std::size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
    return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

TEST_CASE("each turn continues the session, which equals a fresh prefill of the whole conversation") {
    std::size_t continued = 0, rewound = 0;
    for (const std::string& source : {chatml, replaced(chatml, "message['content']", "message['content'] | trim")}) {
        const Tokenizer tokenizer = make_tokenizer(source);
        for (std::uint64_t seed = 1; seed <= 12; ++seed) {
            CAPTURE(seed);
            const Dense model = make_model(tokenizer, seed);
            Conversation<Dense> conversation(model, tokenizer, "Be brief.");
            std::vector<ChatMessage> said{{"system", "Be brief."}};
            std::vector<TokenId> held;
            for (const std::string text : {"Hello", "What is abc?", "Why?"}) {
                said.push_back({"user", text});
                const std::vector<TokenId> rendering = encode_chat(tokenizer, render_chat(tokenizer, said));
                const ChatReply reply = conversation.say(text, {.max_new_tokens = 3});
                CHECK(reply.prompt_tokens == rendering.size());
                CHECK(reply.reused_tokens == std::min(common_prefix(held, rendering), rendering.size() - 1));
                (reply.reused_tokens == held.size() ? continued : rewound) += held.empty() ? 0 : 1;

                // The answer is what a fresh session says after the whole rendering.
                Session fresh = model.new_session();
                std::vector<TokenId> answer;
                const auto is_end = chat_end(tokenizer, conversation.chat_template());
                generate(model, fresh, rendering, {.max_new_tokens = 3, .is_end = is_end},
                         [&](const GeneratedToken& token) { answer.push_back(token.token); });
                StreamDecoder decoder(tokenizer, true);
                std::string expected;
                for (const TokenId token : answer) expected += decoder.push(token);
                CHECK(reply.text == expected + decoder.finish());
                CHECK(reply.exit_layers == std::vector<std::size_t>(answer.size(), 4));

                said.push_back({"assistant", reply.text});
                CHECK(std::equal(said.begin(), said.end(), conversation.messages().begin(), conversation.messages().end()));
                held = rendering;
                held.insert(held.end(), answer.begin(), answer.end());
                held.resize(fresh.length());
                CHECK(std::equal(held.begin(), held.end(), conversation.tokens().begin(), conversation.tokens().end()));
                check_history(model, conversation);
            }
        }
    }
    CHECK(continued > 0);  // the answer's text splits into the tokens that the model chose
    CHECK(rewound > 0);    // it does not: random answers are seldom UTF-8
}

TEST_CASE("with an early-exit policy the conversation goes on as well") {
    const Tokenizer tokenizer = make_tokenizer();
    const auto model = make_model(tokenizer).with_policy(ExitAtLayer(2));
    Conversation conversation(model, tokenizer);
    const ChatReply reply = conversation.say("ab", {.max_new_tokens = 4});
    REQUIRE(reply.exit_layers.size() == 4);
    CHECK(reply.exit_layers == std::vector<std::size_t>{4, 2, 2, 2});
    CHECK(reply.result.reason == FinishReason::MaxTokens);
    CHECK(conversation.say("again", {.max_new_tokens = 4}).prompt_tokens > reply.prompt_tokens);
}

TEST_CASE("the answer comes as text, and the callback may end it") {
    const Tokenizer tokenizer = make_tokenizer();
    const Dense model = make_model(tokenizer);
    Conversation<Dense> conversation(model, tokenizer), other(model, tokenizer);
    std::string streamed;
    const ChatReply reply = conversation.say("Hello", {.max_new_tokens = 20}, [&](std::string_view part) { streamed += part; });
    CHECK(streamed == reply.text);
    std::size_t parts = 0;
    const ChatReply cut = other.say("Hello", {.max_new_tokens = 20}, [&](std::string_view) {
        return ++parts == 2 ? Flow::Stop : Flow::Continue;
    });
    CHECK(cut.result.reason == FinishReason::Callback);
    CHECK(cut.exit_layers.size() < reply.exit_layers.size());
    CHECK(reply.text.starts_with(cut.text.substr(0, 1)));
    check_history(model, other);
    CHECK(other.say("go on", {.max_new_tokens = 2}).reused_tokens > 0);
}

TEST_CASE("the end of a turn ends an answer, whatever the file's eos") {
    const Tokenizer tokenizer = make_tokenizer();
    CHECK(tokenizer.eos() == test_vocabulary::id_of("</s>"));
    RandomModelOptions options = tiny::options();
    options.vocabulary = tokenizer.vocab_size();
    options.context = 200;
    ModelWeights weights = make_random_model(options);
    // The token's row of the head is the sum of the state's own direction: made the likeliest by far after this prompt.
    const std::vector<TokenId> prompt = encode_chat(tokenizer, render_chat(tokenizer, std::vector<ChatMessage>{{"user", "ab"}}));
    {
        const Dense probe(make_random_model(options));
        Session session = probe.new_session();
        probe.prefill(session, std::span(prompt).first(prompt.size() - 1));
        const auto states = tiny::states(probe.decoder(), session, std::span(prompt).last(1));
        const auto direction = tiny::norm(states.back(), weights.final_norm.gain, weights.config.norm_eps);
        const std::size_t row = static_cast<std::size_t>(test_vocabulary::id_of("<|im_end|>"));
        float* const head = tiny::mutable_row(weights.head.weight, row);
        for (std::size_t i = 0; i < direction.size(); ++i) head[i] = static_cast<float>(10 * direction[i]);
    }
    const Dense model(std::move(weights));
    Conversation<Dense> conversation(model, tokenizer);
    const ChatReply reply = conversation.say("ab");
    CHECK(reply.result.reason == FinishReason::StopToken);
    CHECK(reply.result.pending == test_vocabulary::id_of("<|im_end|>"));
    CHECK(reply.text.empty());
    CHECK(conversation.messages().size() == 2);
}

TEST_CASE("a conversation that does not fit, a cancelled turn and a refused one leave nothing behind") {
    const Tokenizer tokenizer = make_tokenizer();
    const Dense model = make_model(tokenizer, 1, 200);
    Conversation<Dense> conversation(model, tokenizer, {}, 120);
    CHECK(conversation.session().capacity() == 120);
    conversation.say("ab", {.max_new_tokens = 2});
    const std::vector<TokenId> held(conversation.tokens().begin(), conversation.tokens().end());
    const auto unchanged = [&] {
        CHECK(conversation.messages().size() == 2);
        check_history(model, conversation);
    };

    const std::string message = error_of(ErrorCode::ContextOverflow, [&] { conversation.say(std::string(100, 'x')); });
    CHECK(contains(message, "tokens, its session holds 120"));
    unchanged();
    CHECK(std::equal(held.begin(), held.end(), conversation.tokens().begin(), conversation.tokens().end()));

    std::stop_source stop;
    stop.request_stop();
    error_of(ErrorCode::Cancelled, [&] { conversation.say("b", {.run = {.stop = stop.get_token()}}); });
    unchanged();
    std::stop_source later;
    error_of(ErrorCode::Cancelled, [&] {
        conversation.say("b", {.max_new_tokens = 30, .run = {.stop = later.get_token()}},
                         [&](std::string_view) { later.request_stop(); });
    });
    unchanged();

    const ChatReply full = conversation.say("b", {.max_new_tokens = 1000});
    CHECK(full.result.reason == FinishReason::ContextFull);
    CHECK(conversation.session().length() == 120);

    conversation.reset();
    CHECK(conversation.messages().empty());
    CHECK(conversation.tokens().empty());
    CHECK(conversation.say("b", {.max_new_tokens = 1}).reused_tokens == 0);
}

TEST_CASE("a model without a known template does not converse") {
    const Tokenizer none = make_tokenizer(""), unknown = make_tokenizer("{{ messages }}");
    const Dense model = make_model(none);
    CHECK(contains(error_of(ErrorCode::Unsupported, [&] { Conversation<Dense>(model, none); }), "no chat template"));
    CHECK(contains(error_of(ErrorCode::Unsupported, [&] { Conversation<Dense>(model, unknown); }), "no known family"));
}

}  // namespace test_conversation
