#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "errors.hpp"
#include "file_text.hpp"
#include "temporary_files.hpp"
#include "tokenizer_source.hpp"

#ifndef ADAINFER_FIXTURES
#define ADAINFER_FIXTURES "tests/fixtures"
#endif

namespace test_task {

namespace {

using namespace adainfer;

const std::string good = R"({
  "name": "colour",
  "template": "Q: {input}\nA: {output}\n\n",
  "shots": 2,
  "labels": ["red", "green"],
  "train": [
    {"input": "tomato", "output": "red"},
    {"input": "grass", "output": "green", "source": 7},
    {"input": "blood", "output": "red"}
  ],
  "test": [{"input": "leaf", "output": "green"}]
})";

void check_refused_text(const std::string& text, std::string_view reason) {
    const std::string message = error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(parse_task(text, "t.json")); });
    CAPTURE(message);
    CHECK(contains(message, "'t.json': "));
    CHECK(contains(message, reason));
}

void check_refused(std::string_view from, std::string_view to, std::string_view reason) {
    check_refused_text(replaced(good, from, to), reason);
}

Task task_of(std::string template_text, std::size_t train = 0) {
    Task task{"t", std::move(template_text), 0, {}, {}, {{"x", "y"}}};
    for (std::size_t i = 0; i < train; ++i) task.train.push_back({"in" + std::to_string(i), "out" + std::to_string(i)});
    return task;
}

std::vector<std::filesystem::path> demo_tasks() {
    std::vector<std::filesystem::path> paths;
    const auto folder = std::filesystem::path(ADAINFER_FIXTURES) / ".." / ".." / "examples" / "demo";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".json") continue;
        if (contains(file_text(entry.path()), "\"template\"")) paths.push_back(entry.path());  // policies lie there too
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

}  // namespace

TEST_CASE("task: a file is read") {
    const TemporaryFiles files;
    const auto path = files.write("task.json", std::as_bytes(std::span(good)));
    const Task task = load_task(path);
    CHECK(task.name == "colour");
    CHECK(task.template_text == "Q: {input}\nA: {output}\n\n");
    CHECK(task.shots == 2);
    CHECK(task.labels == std::vector<std::string>{"red", "green"});
    REQUIRE(task.train.size() == 3);
    CHECK(task.train[1].input == "grass");
    CHECK(task.train[1].output == "green");
    REQUIRE(task.test.size() == 1);
    CHECK(task.test[0].input == "leaf");
    validate(task);
    const Task open = parse_task(replaced(good, "\"labels\": [\"red\", \"green\"],", ""), "open");
    CHECK(open.labels.empty());
    CHECK(parse_task(replaced(good, "\"shots\": 2", "\"shots\": 0"), "t").shots == 0);
    CHECK(parse_task(replaced(good, "\"shots\": 2", "\"shots\": 3"), "t").shots == 3);
    CHECK(parse_task(replaced(good, "tomato", ""), "t").train[0].input.empty());
    CHECK(contains(error_of(ErrorCode::Io, [&] { static_cast<void>(load_task(files.directory() / "absent.json")); }),
                   "absent.json"));
}

TEST_CASE("task: the tasks of the demo are read") {
    const auto paths = demo_tasks();
    CHECK(paths.size() >= 9);
    for (const auto& path : paths) {
        CAPTURE(path.string());
        const Task task = load_task(path);
        CHECK(task.train.size() + task.test.size() >= 200);
        CHECK(task.shots >= 8);
        CHECK(task.name == path.stem().string());
    }
}

TEST_CASE("task: fields that are missing, unknown or of the wrong type") {
    for (const char* field : {"name", "template", "shots", "train", "test"}) {
        const std::string quoted = "\"" + std::string(field) + "\"";
        check_refused(quoted, "\"labels_\"",
                      "unknown field 'labels_'; known here: name, template, shots, labels, train, test");
        const std::size_t begin = good.find(quoted);
        const bool last = std::string_view(field) == "test";
        const std::size_t end = last ? good.rfind('}') : good.find("\n  \"", begin);
        std::string text = good.substr(0, begin) + good.substr(end);
        if (last) text.erase(text.rfind(','), 1);
        check_refused_text(text, "field '" + std::string(field) + "' is missing");
    }
    check_refused("\"input\": \"grass\"", "\"in\": \"grass\"", "field 'train[1].input' is missing");
    check_refused("\"output\": \"green\"}]", "\"out\": \"green\"}]", "field 'test[0].output' is missing");
    check_refused("\"colour\"", "null", "field 'name' must be a string, found null");
    check_refused("\"Q: {input}\\nA: {output}\\n\\n\"", "[\"{input}{output}\"]",
                  "field 'template' must be a string, found array");
    check_refused("\"shots\": 2", "\"shots\": \"2\"", "field 'shots' must be a whole number, 0 or more, found '2'");
    check_refused("\"shots\": 2", "\"shots\": 2.0", "field 'shots' must be a whole number, 0 or more, found 2.0");
    check_refused("\"shots\": 2", "\"shots\": -1", "found -1");
    check_refused("\"shots\": 2", "\"shots\": 99999999999999999999", "field 'shots' must be a whole number");
    check_refused("[\"red\", \"green\"]", "\"red,green\"", "field 'labels' must be an array, found 'red,green'");
    check_refused("[\"red\", \"green\"]", "[\"red\", 3]", "field 'labels[1]' must be a string, found 3");
    check_refused("\"blood\"", "[1]", "field 'train[2].input' must be a string, found array");
    check_refused("{\"input\": \"blood\", \"output\": \"red\"}", "\"blood\"",
                  "field 'train[2]' must be an object, found 'blood'");
    check_refused("[{\"input\": \"leaf\", \"output\": \"green\"}]", "{}", "field 'test' must be an array, found object");
    check_refused_text("[]", "the document must be an object, found array");
}

TEST_CASE("task: fields that do not hold together") {
    check_refused("\"colour\"", "\"\"", "field 'name' is empty");
    check_refused("{input}", "{question}", "field 'template' has no {input}");
    check_refused("{output}", "{answer}", "field 'template' has no {output}");
    check_refused("Q: {input}\\nA: {output}", "A: {output}\\nQ: {input}", "field 'template' has {output} before {input}");
    check_refused("Q: ", "{input}", "field 'template' has {input} more than once");
    check_refused("\\n\\n", "{output}", "field 'template' has {output} more than once");
    check_refused("\"shots\": 2", "\"shots\": 4", "field 'shots' is 4, there are 3 train examples");
    check_refused("\"output\": \"green\", \"source\"", "\"output\": \"blue\", \"source\"",
                  "field 'train[1].output' is 'blue', which is none of the labels");
    check_refused("\"output\": \"green\"}]", "\"output\": \"Green\"}]",
                  "field 'test[0].output' is 'Green', which is none of the labels");
    check_refused("[\"red\", \"green\"]", "[\"red\", \"green\", \"red\"]", "field 'labels[2]' repeats 'red'");
    check_refused("[\"red\", \"green\"]", "[\"red\", \"green\", \"\"]", "field 'labels[2]' is empty");
    check_refused("[\"red\", \"green\"]", "[\"red\"]", "one label");
    check_refused("[\"red\", \"green\"]", "[]", "field 'labels' must be two or more labels");
    check_refused("{\"input\": \"leaf\", \"output\": \"green\"}", "", "field 'test' has no examples");
    check_refused_text(replaced(replaced(good, "\"labels\": [\"red\", \"green\"],", ""), "\"red\"", "\"\""),
                       "field 'train[0].output' is empty");
    Task task = parse_task(good, "t");
    task.test.clear();
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { validate(task); }),
                   "task 'colour': field 'test' has no examples"));
}

TEST_CASE("task: text that is no JSON, or JSON that is too much") {
    for (std::size_t cut = 0; cut < good.size(); ++cut) {
        CHECK_THROWS_AS(static_cast<void>(parse_task(good.substr(0, cut), "t.json")), Error);
    }
    check_refused("tomato", "tom\xFFto", "not valid JSON");
    check_refused("tomato", "tom\xED\xA0\x80to", "not valid JSON");
    check_refused("tomato", "\\ud800", "not valid JSON");
    check_refused("tomato", "a\nb", "not valid JSON");
    check_refused("\"shots\": 2", "\"shots\": 2, \"shots\": 2", "the key 'shots' stands twice in an object");
    check_refused("\"input\": \"grass\"", "\"input\": \"grass\", \"input\": \"grass\"",
                  "the key 'input' stands twice in an object");
    check_refused("\"source\": 7", "\"source\": " + std::string(100'000, '['), "nested deeper than 32 levels");
    check_refused("\"source\": 7", "\"source\": 1e999", "not valid JSON");
    check_refused_text("\xEF\xBB\xBF" + good, "byte order mark");
    check_refused_text(good + '\0' + "more", "NUL byte");
    check_refused_text(good + good, "not valid JSON");
    std::string deep;
    for (int i = 0; i < 200'000; ++i) deep += "{\"x\":";
    check_refused_text(deep, "nested deeper than 32 levels");
    // No byte of the file that could harm a terminal reaches the message.
    check_refused("\"labels\"", "\"la\\u001b[31mbels\"", "unknown field 'la?[31mbels'");
}

TEST_CASE("prompt: put together as the template says") {
    const Task task = parse_task(good, "t");
    CHECK(question(task, "snow") == "Q: snow\nA:");
    CHECK(answer(task, "white") == " white");
    CHECK(default_shots(task) == std::vector<std::size_t>{0, 1});
    CHECK(few_shot_prefix(task, default_shots(task)) == "Q: tomato\nA: red\n\nQ: grass\nA: green\n\n");
    CHECK(few_shot_prefix(task, std::vector<std::size_t>{2, 2}) == "Q: blood\nA: red\n\nQ: blood\nA: red\n\n");
    CHECK(few_shot_prefix(task, {}).empty());
    CHECK(contains(
        error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(few_shot_prefix(task, std::vector<std::size_t>{3})); }),
        "shot 3"));
}

TEST_CASE("prompt: odd templates") {
    CHECK(question(task_of("{input}{output}"), "a ") == "a ");
    CHECK(answer(task_of("{input}{output}"), "b") == "b");
    CHECK(question(task_of("{input}   {output}"), "a ") == "a ");
    CHECK(answer(task_of("{input}   {output}"), "b") == "   b");
    CHECK(question(task_of("{input}\n{output}"), "a") == "a\n");
    CHECK(question(task_of("{{input}} => {output} {x}"), "a") == "{a} =>");
    const Task task = task_of("{input}: {output}\n", 1);
    CHECK(question(task, "{output} {input}") == "{output} {input}:");  // slots in the text are text
    CHECK(few_shot_prefix(task, std::vector<std::size_t>{0}) == "in0: out0\n");
    CHECK_THROWS_AS(static_cast<void>(question(task_of("{output}{input}"), "a")), Error);
    CHECK_THROWS_AS(static_cast<void>(answer(task_of("none"), "a")), Error);
}

TEST_CASE("prompt: other shots by seed") {
    Task task = task_of("{input} {output}", 20);
    task.shots = 6;
    CHECK(pick_shots(task, 1) == pick_shots(task, 1));
    CHECK(pick_shots(task, 1) != pick_shots(task, 2));
    CHECK(pick_shots(task, 42) == std::vector<std::size_t>{6, 0, 1, 2, 9, 13});  // pinned: the same on every machine
    std::vector<std::size_t> counts(20);
    for (std::uint64_t seed = 0; seed < 4000; ++seed) {
        const auto shots = pick_shots(task, seed, 3);
        CHECK(std::set<std::size_t>(shots.begin(), shots.end()).size() == 6);
        for (const std::size_t shot : shots) ++counts.at(shot);
    }
    CHECK(counts[3] == 0);
    for (std::size_t i = 0; i < 20; ++i) {
        if (i != 3)
            CHECK(static_cast<double>(counts[i]) == doctest::Approx(4000.0 * 6 / 19).epsilon(0.12));  // four deviations
    }
    task.shots = 20;
    CHECK(pick_shots(task, 5).size() == 20);
    CHECK(contains(error_of(ErrorCode::InvalidArgument, [&] { static_cast<void>(pick_shots(task, 5, 0)); }),
                   "20 shots asked for, 19 train examples"));
}

TEST_CASE("prompt: what token sequences share") {
    using Ids = std::vector<std::vector<TokenId>>;
    EncodedPrompts prompts = share_prefix({{1, 2, 3, 4}, {1, 2, 5}});
    CHECK(prompts.prefix == std::vector<TokenId>{1, 2});
    CHECK(prompts.rests == Ids{{3, 4}, {5}});
    prompts = share_prefix({{1, 2, 3}, {1, 2}, {1, 2, 3, 4}});  // a sequence keeps its last token
    CHECK(prompts.prefix == std::vector<TokenId>{1});
    CHECK(prompts.rests == Ids{{2, 3}, {2}, {2, 3, 4}});
    prompts = share_prefix({{1, 2, 3}});
    CHECK(prompts.prefix == std::vector<TokenId>{1, 2});
    CHECK(prompts.rests == Ids{{3}});
    prompts = share_prefix({{1, 2}, {1, 2}});
    CHECK(prompts.rests == Ids{{2}, {2}});
    prompts = share_prefix({{1}, {2}});
    CHECK(prompts.prefix.empty());
    CHECK_THROWS_AS(static_cast<void>(share_prefix({})), Error);
    CHECK_THROWS_AS(static_cast<void>(share_prefix({{1}, {}})), Error);
}

TEST_CASE("prompt: with the tokenizer of SmolLM2 the pieces are the whole, which prefix and question apart are not") {
    auto data = load_vocabulary(environment("ADAINFER_SMOLLM2"));
    if (!data) {
        MESSAGE("skipped: ADAINFER_SMOLLM2 is not set");
        return;
    }
    const Tokenizer tokenizer(std::move(*data));
    for (const auto& path : demo_tasks()) {
        CAPTURE(path.string());
        const Task task = load_task(path);
        const std::string prefix = few_shot_prefix(task, default_shots(task));
        std::vector<std::string> questions;
        for (const Example& example : task.test) questions.push_back(question(task, example.input));
        const EncodedPrompts prompts = encode_prompts(tokenizer, prefix, questions);
        REQUIRE(prompts.rests.size() == questions.size());
        EncodeOptions options;
        options.add_bos = tokenizer.adds_bos();
        std::size_t apart_differs = 0, rest_tokens = 0;
        for (std::size_t i = 0; i < questions.size(); ++i) {
            const std::vector<TokenId> whole = tokenizer.encode(prefix + questions[i], options);
            std::vector<TokenId> pieces = prompts.prefix, apart = tokenizer.encode(prefix, options);
            pieces.insert(pieces.end(), prompts.rests[i].begin(), prompts.rests[i].end());
            CHECK(pieces == whole);
            const std::vector<TokenId> alone = tokenizer.encode(questions[i]);
            apart.insert(apart.end(), alone.begin(), alone.end());
            apart_differs += apart != whole ? 1 : 0;
            rest_tokens += prompts.rests[i].size();
            // The answer can be tokenized by itself: nothing merges across the space in front of it.
            const std::string text = answer(task, task.test[i].output);
            std::vector<TokenId> with_answer = whole;
            const std::vector<TokenId> answer_ids = tokenizer.encode(text);
            with_answer.insert(with_answer.end(), answer_ids.begin(), answer_ids.end());
            CHECK(with_answer == tokenizer.encode(prefix + questions[i] + text, options));
        }
        CHECK(apart_differs == questions.size());  // what prompt.hpp says; if it changes, so may the comment
        MESSAGE(task.name << ": prefix " << prompts.prefix.size() << " tokens, then "
                          << static_cast<double>(rest_tokens) / static_cast<double>(questions.size()) << " a question");
    }
}

}  // namespace test_task
