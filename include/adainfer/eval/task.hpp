#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/json_reader.hpp"

namespace adainfer::inline v0 {

/// A question and its right answer.
struct Example {
    std::string input, output;
};

/// A few-shot task: how a prompt is put together, and examples to learn from and to be judged by.
struct Task {
    std::string name;
    std::string template_text;        ///< with {input} and {output} once each, e.g. "Q: {input}\nA: {output}\n\n"
    std::size_t shots = 0;            ///< how many train examples stand before a question
    std::vector<std::string> labels;  ///< the answers to choose from; empty: any text
    std::vector<Example> train, test;
};

namespace detail::task {

inline constexpr std::string_view input_slot = "{input}", output_slot = "{output}";
inline constexpr std::size_t max_bytes = std::size_t{256} << 20U;

/// Throws `code` with what is wrong with a task; `where` starts the message.
inline void check(const Task& task, const std::string& where, ErrorCode code) {
    const auto refuse = [&](const auto&... parts) { fail(code, where, parts...); };
    if (task.name.empty()) refuse("field 'name' is empty");
    const auto position = [&](std::string_view slot) {
        const std::size_t first = task.template_text.find(slot);
        if (first == std::string::npos) refuse("field 'template' has no ", slot);
        if (task.template_text.find(slot, first + 1) != std::string::npos)
            refuse("field 'template' has ", slot, " more than once");
        return first;
    };
    if (position(output_slot) < position(input_slot)) refuse("field 'template' has {output} before {input}");
    if (task.shots > task.train.size())
        refuse("field 'shots' is ", task.shots, ", there are ", task.train.size(), " train examples");
    const std::set<std::string_view> labels(task.labels.begin(), task.labels.end());
    if (task.labels.size() == 1)
        refuse("field 'labels' has one label; there must be two or more, or no such field for open answers");
    for (std::size_t i = 0; i < task.labels.size(); ++i) {
        if (task.labels[i].empty()) refuse("field 'labels[", i, "]' is empty");
        if (std::find(task.labels.begin(), task.labels.begin() + static_cast<std::ptrdiff_t>(i), task.labels[i]) !=
            task.labels.begin() + static_cast<std::ptrdiff_t>(i)) {
            refuse("field 'labels[", i, "]' repeats ", detail::quoted(task.labels[i]));
        }
    }
    const auto check_examples = [&](std::string_view field, const std::vector<Example>& examples) {
        for (std::size_t i = 0; i < examples.size(); ++i) {
            const std::string& output = examples[i].output;
            if (output.empty()) refuse("field '", field, '[', i, "].output' is empty");
            if (!labels.empty() && !labels.contains(output)) {
                refuse("field '", field, '[', i, "].output' is ", detail::quoted(output), ", which is none of the labels");
            }
        }
    };
    check_examples("train", task.train);
    if (task.test.empty()) refuse("field 'test' has no examples");
    check_examples("test", task.test);
}

[[nodiscard]] inline std::vector<Example> read_examples(const json::Field& field) {
    std::vector<Example> examples;
    for (const json::Field& example : field.elements())
        examples.push_back({example.at("input").text(), example.at("output").text()});
    return examples;
}

[[nodiscard]] inline Task read(const json::Value& document, const std::string& file) {
    const json::Field root(document, file);
    // A misspelt "labels" would turn a choice into an open question, so unknown fields are refused here. Examples may
    // carry more than they need, such as a number of their own.
    root.only({"name", "template", "shots", "labels", "train", "test"});
    Task task;
    task.name = root.at("name").text();
    task.template_text = root.at("template").text();
    task.shots = root.at("shots").count((std::numeric_limits<std::size_t>::max)());
    if (const auto labels = root.find("labels")) {
        for (const json::Field& label : labels->elements()) task.labels.push_back(label.text());
        if (task.labels.empty()) labels->wrong("two or more labels, or left out for open answers");
    }
    task.train = read_examples(root.at("train"));
    task.test = read_examples(root.at("test"));
    check(task, "'" + file + "': ", ErrorCode::CorruptFile);
    return task;
}

}  // namespace detail::task

/// Throws InvalidArgument where a task that was put together by hand does not hold together: what a task file may not say either.
inline void validate(const Task& task) {
    detail::task::check(task, "task " + detail::quoted(task.name) + ": ", ErrorCode::InvalidArgument);
}

/// Reads a task from JSON text; `name` is for messages. Throws Error (CorruptFile).
[[nodiscard]] inline Task parse_task(std::string_view text, const std::string& name) {
    return detail::task::read(detail::json::parse(text, name).root(), name);
}

/// Reads a task file:
///
///     {"name": "sentiment", "template": "Review: {input}\nSentiment: {output}\n\n", "shots": 8,
///      "labels": ["negative", "positive"],                 (left out: open answers)
///      "train": [{"input": "...", "output": "..."}, ...], "test": [...]}
///
/// Throws Error: Io, Unsupported (size), and CorruptFile with file, field and index where it is no JSON in UTF-8, nests too
/// deep, has a key twice, fields that are missing, unknown or of the wrong type, a template without {input} and then
/// {output} once each, more shots than train examples, an empty or repeated label, an answer that is empty or none of the
/// labels, or no test.
[[nodiscard]] inline Task load_task(const std::filesystem::path& path) {
    return detail::task::read(detail::json::parse_file(path, detail::task::max_bytes).root(), path.string());
}

}  // namespace adainfer::inline v0
