#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/generate/chat.hpp"
#include "errors.hpp"
#include "tiny_model.hpp"
#include "tokenizer_source.hpp"
#include "tokenizer_vocabulary.hpp"

namespace test_chat_template {

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
}

TEST_CASE("what is not known is refused") {
    const std::vector<ChatMessage> hello{{"user", "Hi"}};
    const auto code = [&](const std::string& source) {
        return tiny::code_of([&] { return render_chat(source, hello); });
    };
    CHECK(code(plain) == std::nullopt);
    CHECK(code("") == ErrorCode::Unsupported);
    CHECK(code("{{ messages }}") == ErrorCode::Unsupported);
    CHECK(code("{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}") == ErrorCode::Unsupported);
    for (const std::string more :
         {"{{ 'x' }}", "x", "\n\nx", "{% if messages %}x{% endif %}", "{% set x %}{% endset %}", "{% if true %}x{% endif %}",
          "{% for tool in messages %}x{% endfor %}", "{% if not tools %}x{% endif %}", "{{ bos_token }}{{ bos_token }}"}) {
        CAPTURE(more);
        CHECK(code(more + plain) == ErrorCode::Unsupported);
        CHECK(code(plain + more) == ErrorCode::Unsupported);
    }
    for (const auto& change : std::vector<std::pair<std::string, std::string>>{
             {R"( + '\n'}})", "}}"},
             {"message['role']", "'user'"},
             {"message['content']", "message['content'] | upper"},
             {"in messages", "in messages[1:]"},
             {"assistant", "model"},
             {"if add_generation_prompt", "if not add_generation_prompt"},
             {"{% endfor %}", "{% else %}{% endfor %}"},
             {"{% endif %}", ""},
             {"{% endfor %}", ""},
             {"'<|im_end|>'", "'<|im_end|>"}}) {
        CAPTURE(change.first);
        CHECK(code(replaced(plain, change.first, change.second)) == ErrorCode::Unsupported);
    }
    const std::string message = error_of(ErrorCode::Unsupported, [&] { static_cast<void>(render_chat("[INST]", hello)); });
    CHECK(contains(message, "known: ChatML, Llama 2, Llama 3, Gemma, Phi-3, Mistral"));
    CHECK(contains(message, "[INST]"));

    CHECK(knows_chat_template(smollm2));
    CHECK_FALSE(knows_chat_template("{{ messages }}"));
    const std::string unknown = error_of(ErrorCode::Unsupported, [] { ChatTemplate(" {{\n'\x1b[2J\x80\x7f' }}"); });
    CHECK(contains(unknown, "it begins \" {{ '?[2J?" "?' }}\""));  // nothing that a terminal would obey
}

TEST_CASE("what changes nothing for plain text does not matter") {
    const std::vector<ChatMessage> hello{{"user", "Hi"}};
    const std::string expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    for (const std::string more :
         {"", "{% if tools %}{{ tools }}{% endif %}", "{# tools #}", "{% set unread = 1 %}",
          "{%- if tools is not none %}x{% endif %}",
          "{% if enable_thinking is defined and enable_thinking %}x{% endif %}", "{% if false %}x{% endif %}",
          "{% for tool in tools %}{{ tool }}{% endfor %}", "{% if documents %}x{% elif tools %}y{% else %}{% endif %}"}) {
        CAPTURE(more);
        CHECK(render_chat(more + plain, hello) == expected);
        CHECK(render_chat(plain + more, hello) == expected);
    }
    CHECK(render_chat("{% if not tools %}" + plain + "{% else %}{{ tools }}{% endif %}", hello) == expected);
    const std::string called = replaced(replaced(plain, "{{'<|im", "{% if message.role == 'tool' %}x{% else %}{{'<|im"),
                                        "{% endfor", "{% endif %}{% endfor");
    CHECK(render_chat(called, hello) == expected);
}

TEST_CASE("hostile templates are refused, and soon") {
    const auto times = [](const std::string& text, std::size_t n) {
        std::string result;
        for (std::size_t i = 0; i < n; ++i) result += text;
        return result;
    };
    for (const std::string& source :
         {times("{%if x%}", 30000), times("{{", 100000), times("{%", 100000), times("{#", 100000), times("{{'", 50000),
          "{{" + times("(", 200000) + "}}", "{%if " + times("(", 100000) + times(")", 100000) + "%}{%endif%}",
          "{%if " + times("not ", 50000) + "x%}{%endif%}", "{%if " + times("x or y and ", 20000) + "z%}{%endif%}",
          "{%if " + times("messages or ", 20000) + "z%}x{%endif%}",
          "{%if messages%}" + times("{%elif messages or loop%}x", 9000) + "{%endif%}",
          times("{%set a='x'%}", 18000), times("{{'a'}}", 30000), times("{{a}}", 50000), times("{%set ns.a=ns.a+1%}", 13000),
          times("-", 300000), times("{%for a in b%}{%endfor%}", 10000), std::string("{{ 'a\\"), std::string("{{ \"a"),
          std::string("{%"), std::string("{"), std::string("{%if%}{%endif%}"), std::string("{%for%}{%endfor%}"),
          std::string("{%set%}"), std::string("{{}}"), std::string("{%%}"), std::string("{%for message in%}{%endfor%}"),
          std::string("{{-}}"), std::string("{%if ]%}{%endif%}"), std::string("{{)}}"), std::string("{{ x[ }}"),
          std::string("\0\xff", 2), std::string("{%endif%}"), std::string("{%else%}"),
          std::string("{%if a%}{%else%}{%elif b%}{%endif%}")}) {
        CAPTURE(source.substr(0, 40));
        CHECK_FALSE(knows_chat_template(source));
    }
}

TEST_CASE("conversations that a template does not take") {
    const std::string gemma =
        R"({{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}{% for message in messages %})"
        R"({% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %})"
        R"({% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %})"
        R"({{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %})"
        R"({% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %})";
    const ChatTemplate chat(gemma, {"<bos>", "<eos>"});
    CHECK(chat.family() == "Gemma");
    CHECK(chat.stop_text() == "<end_of_turn>");
    CHECK(chat.render(std::vector<ChatMessage>{{"user", " Hi "}}) ==
          "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n");
    const auto refusal = [&](std::vector<ChatMessage> messages) {
        return error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(chat.render(messages)); });
    };
    CHECK(contains(refusal({{"system", "s"}, {"user", "u"}}), "takes no system message"));
    CHECK(contains(refusal({{"user", "u"}, {"user", "u"}}), "message 2 of these is by user, not by assistant"));
    CHECK(contains(refusal({{"assistant", "a"}}), "by assistant, not by user"));
    CHECK(contains(refusal({{"tool", "t"}}), "a message by 'tool'"));
    CHECK(contains(refusal({}), "at least one message"));
}

TEST_CASE("one bos, never two; the token that ends a turn is a stop") {
    TokenizerData data = test_vocabulary::data();  // adds bos; its eos is </s>
    data.chat_template = "{{ bos_token }}" + plain;
    const auto id_of = [](std::string_view token) { return test_vocabulary::id_of(token); };
    const std::vector<ChatMessage> hello{{"user", "ab"}};
    for (const bool adds_bos : {true, false}) {
        data.add_bos = adds_bos;
        const Tokenizer tokenizer(data);
        const std::string text = render_chat(tokenizer, hello);
        CHECK(text.starts_with("<s><|im_start|>"));
        const auto ids = encode_chat(tokenizer, text);
        CHECK(ids.front() == id_of("<s>"));
        CHECK(std::count(ids.begin(), ids.end(), id_of("<s>")) == 1);
        const auto without = encode_chat(tokenizer, text.substr(3));
        CHECK(std::equal(ids.begin() + 1, ids.end(), without.begin() + (adds_bos ? 1 : 0), without.end()));
        CHECK(std::count(without.begin(), without.end(), id_of("<s>")) == (adds_bos ? 1 : 0));

        const ChatTemplate chat(tokenizer);
        CHECK(chat.stop_text() == "<|im_end|>");
        const auto is_end = chat_end(tokenizer, chat);
        CHECK(is_end(id_of("<|im_end|>")));
        CHECK(is_end(id_of("</s>")));
        CHECK_FALSE(is_end(id_of("ab")));
    }
    // Mistral ends a turn by eos.
    data.chat_template =
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('no') }}{% endif %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
        "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}";
    const Tokenizer tokenizer(data);
    const ChatTemplate chat(tokenizer);
    CHECK(chat.family() == "Mistral");
    CHECK(chat.stop_text() == "</s>");
    CHECK(chat.render(std::vector<ChatMessage>{{"user", "a"}, {"assistant", "b"}, {"user", "c"}}) ==
          "<s>[INST] a [/INST]b</s>[INST] c [/INST]");
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
        MESSAGE("skipped: ADAINFER_SMOLLM2 is not set");
        return;
    }
    CHECK(data->chat_template == smollm2);
}

TEST_CASE("a template whose constants grow without end is refused, not unfolded") {
    std::string doubled = "{% set x = '" + std::string(1000, 'a') + "' %}";
    for (int i = 0; i < 60; ++i) doubled += "{% set x = x + x %}";
    CHECK_FALSE(knows_chat_template(doubled + "{{ x }}" + plain));

    std::string repeated = "{% set x = '" + std::string(120'000, 'a') + "' %}";
    while (repeated.size() < 260'000) repeated += "{{x}}";  // 28,000 times
    CHECK_FALSE(knows_chat_template(repeated + plain));

    std::string few = "{% set x = '<|im_end|>' %}" + plain;  // what real templates do
    CHECK(knows_chat_template(replaced(few, "'<|im_end|>' + ", "x + ")));
}

}  // namespace test_chat_template
