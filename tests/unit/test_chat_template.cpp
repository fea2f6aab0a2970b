#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "adainfer/generate/chat.hpp"
#include "tiny_model.hpp"
#include "tokenizer_source.hpp"
#include "tokenizer_vocabulary.hpp"

using namespace adainfer;

namespace {

// SmolLM2's template; in the file the line breaks inside its strings are real ones.
const std::string smollm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + "
    "'\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' "
    "}}{% endif %}";

// ChatML without a preset system message, with escaped line breaks.
const std::string plain =
    R"({% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}})"
    R"({% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

}  // namespace

// The expected texts are those of transformers 5.23,
//   tokenizer.apply_chat_template(messages, chat_template=source, add_generation_prompt=..., tokenize=False)
TEST_CASE("a conversation without a system message gets the template's own") {
    const std::string system =
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n";
    const std::vector<ChatMessage> question{{"user", "Why is the sky blue?"}};
    CHECK(render_chat(smollm2, question) == system + "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n");
    CHECK(render_chat(plain, question) == "<|im_start|>user\nWhy is the sky blue?<|im_end|>\n<|im_start|>assistant\n");

    const std::vector<ChatMessage> turns{{"user", "Hi"}, {"assistant", "Hello!"}, {"user", " two\nlines "}};
    const std::string rendered =
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n two\nlines <|im_end|>\n"
        "<|im_start|>assistant\n";
    CHECK(render_chat(smollm2, turns) == system + rendered);
    CHECK(render_chat(plain, turns) == rendered);
}

TEST_CASE("a system message of the caller's stands in its place") {
    for (const std::string& source : {smollm2, plain}) {
        CHECK(render_chat(source, std::vector<ChatMessage>{{"system", "Be brief."}, {"user", "Hi"}}) ==
              "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
        const std::vector<ChatMessage> answered{{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Ok."}};
        CHECK(render_chat(source, answered, false) ==
              "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nOk.<|im_end|>\n");
        CHECK(render_chat(source, std::vector<ChatMessage>{{"system", ""}, {"user", "ä 'quoted' {{ x }}"}}) ==
              "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nä 'quoted' {{ x }}<|im_end|>\n<|im_start|>assistant\n");
    }
}

TEST_CASE("spellings of the same template") {
    const std::string other = R"({%- for message in messages -%}
    {{- "<|im_start|>" + message.role + "\n" + message.content + "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\n" -}}{%- endif -%})";
    CHECK(render_chat(other, std::vector<ChatMessage>{{"user", "Hi"}}) ==
          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");

    // The first system header is joined with a message, only the second holds a preset text.
    const std::string preset =
        R"({% if messages[0]['role'] == 'system' %})"
        R"({{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{% else %})"
        R"({{ '<|im_start|>system\nLine one.\nLine two.<|im_end|>\n' }}{% endif %})" +
        plain;
    CHECK(render_chat(preset, std::vector<ChatMessage>{{"user", "Hi"}}) ==
          "<|im_start|>system\nLine one.\nLine two.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

TEST_CASE("what is not known is refused") {
    const std::vector<ChatMessage> hello{{"user", "Hi"}};
    const auto code = [&](const std::string& source) {
        return tiny::code_of([&] { return render_chat(source, hello); });
    };
    CHECK(code("") == ErrorCode::Unsupported);
    CHECK(code("{{ messages }}") == ErrorCode::Unsupported);
    CHECK(code("{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}") == ErrorCode::Unsupported);
    CHECK(code("{{ bos_token }}" + plain) == ErrorCode::Unsupported);
    CHECK(code("{% if tools %}{{ tools }}{% endif %}" + plain) == ErrorCode::Unsupported);
    std::string no_line_break = plain;
    no_line_break.replace(no_line_break.find(R"( + '\n'}})"), 7, "");
    CHECK(code(no_line_break) == ErrorCode::Unsupported);
    const std::string message = tiny::message_of([&] { return render_chat(std::string("[INST]"), hello); });
    CHECK(tiny::contains(message, "known: ChatML"));
    CHECK(tiny::contains(message, "[INST]"));

    CHECK(knows_chat_template(smollm2));
    CHECK_FALSE(knows_chat_template("{{ messages }}"));
    CHECK(tiny::code_of([&] { return render_chat(plain, {}); }) == ErrorCode::InvalidArgument);
}

TEST_CASE("the template of a tokenizer") {
    TokenizerData data = test_vocabulary::data();
    data.chat_template = plain;
    const Tokenizer tokenizer(data);
    const std::string text = render_chat(tokenizer, std::vector<ChatMessage>{{"user", "ab"}});
    CHECK(text == "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n");
    const auto ids = tokenizer.encode(text);
    CHECK(std::count(ids.begin(), ids.end(), test_vocabulary::id_of("<|im_end|>")) == 1);
}

TEST_CASE("SmolLM2's file holds the template above") {
    const auto data = load_vocabulary(environment("ADAINFER_SMOLLM2"));
    if (!data) {
        MESSAGE("skipped: ADAINFER_SMOLLM2 does not name a GGUF file");
        return;
    }
    CHECK(data->chat_template == smollm2);
}
