#include <doctest/doctest.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adainfer/generate/chat.hpp"
#include "file_text.hpp"
#include "tokenizer_source.hpp"

// Every conversation that tests/fixtures/make_chat_fixture.py has rendered with Jinja2.

namespace test_chat_fixture {

using namespace adainfer;

namespace {

struct Counts {
    std::size_t known = 0, unknown = 0, equal = 0, both_refuse = 0;
};

/// Renders a template's conversations and compares: the same text, or an error from both.
void compare(const nlohmann::json& fixture, const nlohmann::json& of_case, const std::string& source, Counts& counts) {
    if (!knows_chat_template(source)) {
        ++counts.unknown;
        return;
    }
    ++counts.known;
    const ChatTemplate chat(source, {fixture["bos"], fixture["eos"]});
    if (of_case.contains("family")) CHECK(chat.family() == of_case["family"].get<std::string>());
    for (const auto& rendering : of_case["renderings"]) {
        const std::size_t number = rendering["messages"];
        CAPTURE(number);
        std::vector<ChatMessage> messages;
        for (const auto& message : fixture["conversations"][number]) messages.push_back({message["role"], message["content"]});
        std::string text;
        bool refused = false;
        try {
            text = chat.render(messages, rendering["generation_prompt"]);
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::InvalidArgument);
            refused = true;
        }
        CHECK(refused == rendering.contains("error"));
        if (refused || rendering.contains("error")) {
            ++counts.both_refuse;
            continue;
        }
        CHECK(text == rendering["text"].get<std::string>());
        ++counts.equal;
    }
}

}  // namespace

TEST_CASE("templates in the manner of each family render as Jinja2 renders them") {
    const auto fixture = nlohmann::json::parse(file_text(std::string(ADAINFER_FIXTURES) + "/chat_templates.json"));
    Counts counts;
    for (const auto& of_case : fixture["cases"]) {
        const std::string name = of_case["family"].get<std::string>() + ", " + of_case["name"].get<std::string>();
        CAPTURE(name);
        compare(fixture, of_case, of_case["template"], counts);
    }
    CHECK(counts.known == fixture["cases"].size());
    CHECK(counts.unknown == 0);
    CHECK(counts.equal > 1400);
    CHECK(counts.both_refuse > 100);
}

TEST_CASE("real templates are refused or render as Jinja2 renders them") {
    const std::string folder = environment("ADAINFER_CHAT_TEMPLATES");
    if (folder.empty()) {
        MESSAGE("skipped: ADAINFER_CHAT_TEMPLATES is not set");
        return;
    }
    const auto fixture = nlohmann::json::parse(file_text(folder + "/expected.json"));  // make_chat_fixture.py writes it
    Counts counts;
    for (const auto& of_case : fixture["cases"]) {
        const std::string name = of_case["file"];
        CAPTURE(name);
        compare(fixture, of_case, file_text(folder + "/" + name), counts);
    }
    CHECK(counts.known > 0);
    MESSAGE(counts.known << " templates known, " << counts.unknown << " refused; " << counts.equal << " texts equal, "
                         << counts.both_refuse << " conversations refused by both");
}

}  // namespace test_chat_fixture
