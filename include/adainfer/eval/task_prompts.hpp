#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
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

namespace adainfer::inline v0 {

/// Prompts of one task as tokens, ready to run: one prefix, and for each prompt what follows it and the right answer.
struct TaskPrompts {
    std::vector<TokenId> prefix;                ///< what all prompts begin with: runs once
    std::vector<std::vector<TokenId>> prompts;  ///< what each adds to it
    std::vector<TokenId> gold;                  ///< first token of each right answer
    std::vector<TokenId> candidates;            ///< first token of each label; empty for open answers

    /// The longest prefix + prompt, in tokens.
    [[nodiscard]] std::size_t longest() const noexcept {
        std::size_t most = 0;
        for (const auto& prompt : prompts) most = (std::max)(most, prompt.size());
        return prefix.size() + most;
    }
};

/// The first token of an answer as it follows the prompt, its leading space included. Throws UnknownToken where it has none.
[[nodiscard]] inline TokenId first_token(const Tokenizer& tokenizer, const Task& task, const std::string& output) {
    EncodeOptions plain;
    plain.parse_special = plain.space_prefix = false;
    const std::vector<TokenId> ids = tokenizer.encode(answer(task, output), plain);
    if (ids.empty()) fail(ErrorCode::UnknownToken, "task '", task.name, "': the answer '", output, "' has no token");
    return ids.front();
}

/// First token of each label. Throws InvalidArgument where two labels begin alike: a one-token choice could not tell them apart.
[[nodiscard]] inline std::vector<TokenId> label_tokens(const Tokenizer& tokenizer, const Task& task) {
    std::vector<TokenId> tokens;
    for (const std::string& label : task.labels) {
        const TokenId token = first_token(tokenizer, task, label);
        if (const auto twin = std::find(tokens.begin(), tokens.end(), token); twin != tokens.end()) {
            fail(ErrorCode::InvalidArgument, "task '", task.name, "': the labels '",
                 task.labels[static_cast<std::size_t>(twin - tokens.begin())], "' and '", label, "' begin with the same token");
        }
        tokens.push_back(token);
    }
    return tokens;
}

/// Prompts that ask for these examples after these shots. Throws InvalidArgument (no examples) and as label_tokens() does.
[[nodiscard]] inline TaskPrompts make_prompts(const Tokenizer& tokenizer, const Task& task, std::span<const std::size_t> shots,
                                              std::span<const Example> examples) {
    std::vector<std::string> questions;
    TaskPrompts result;
    for (const Example& example : examples) {
        questions.push_back(question(task, example.input));
        result.gold.push_back(first_token(tokenizer, task, example.output));
    }
    EncodedPrompts encoded = encode_prompts(tokenizer, few_shot_prefix(task, shots), questions);
    result.prefix = std::move(encoded.prefix);
    result.prompts = std::move(encoded.rests);
    result.candidates = label_tokens(tokenizer, task);
    return result;
}

/// The train examples that are no shots fall into two halves, so that what a lens has seen is not what a policy is
/// calibrated on.
enum class TrainHalf { Lens, Policy };

namespace detail::task {

/// The outputs of examples.
[[nodiscard]] inline std::set<std::string> outputs_of(std::span<const Example> examples) {
    std::set<std::string> outputs;
    for (const Example& example : examples) outputs.insert(example.output);
    return outputs;
}

/// Every second of the examples, in order: the first, third, ... or the others. `by_output`: of the examples of each output.
[[nodiscard]] inline std::vector<Example> every_second(std::span<const Example> examples, bool first, bool by_output) {
    std::map<std::string_view, std::size_t> seen;
    std::vector<Example> chosen;
    for (const Example& example : examples) {
        if ((seen[by_output ? std::string_view(example.output) : std::string_view()]++ % 2 == 0) == first) chosen.push_back(example);
    }
    return chosen;
}

}  // namespace detail::task

/// Every second train example after the shots. Labels often take turns in a file, so that one half would know other labels than the
/// other; then it is every second one of each label.
[[nodiscard]] inline std::vector<Example> train_half(const Task& task, TrainHalf half) {
    namespace d = detail::task;
    const std::span<const Example> examples = std::span(task.train).subspan((std::min)(task.shots, task.train.size()));
    const auto outputs = [&](bool first) { return d::outputs_of(d::every_second(examples, first, false)); };
    const bool by_label = !task.labels.empty() && outputs(true) != outputs(false);
    return d::every_second(examples, half == TrainHalf::Lens, by_label);
}

/// The task with the shots and the lens half as its only train examples: what few-shot prefixes may be drawn from without
/// showing an example of the policy half.
[[nodiscard]] inline Task without_policy_half(const Task& task) {
    Task result = task;
    result.train.resize(task.shots);
    for (Example& example : train_half(task, TrainHalf::Lens)) result.train.push_back(std::move(example));
    return result;
}

}  // namespace adainfer::inline v0
