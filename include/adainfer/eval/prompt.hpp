#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

// How the prompts of a task are put together.
//
//     few_shot_prefix(task, default_shots(task)) + question(task, input)    what the model reads
//     answer(task, output)                                                  what it should say next
//
// The prefix is the same for all questions, so a model runs it once and goes on from a clone. It must not be tokenized by
// itself, though: "\n\n" at its end is one word, "\n\nQ" are two ("\n", then "\n" before Q), so the tokens would be
// others than those of the whole prompt (measured: with SmolLM2, for every question of the demo tasks). encode_prompts() finds
// where the token sequences of whole prompts part, which is right for every tokenizer.

namespace adainfer::inline v0 {

namespace detail::task {
/// A template cut at its slots; the spaces before {output} belong to the answer.
struct Template {
    std::string_view before, between, spaces, after;
};

/// Throws InvalidArgument where a slot is missing or in the wrong place.
[[nodiscard]] inline Template cut(const Task& task) {
    const std::string_view text = task.template_text;
    const std::size_t input = text.find(input_slot), output = text.find(output_slot);
    if (input == std::string_view::npos || output == std::string_view::npos || output < input) {
        fail(ErrorCode::InvalidArgument, "task ", detail::quoted(task.name),
             ": the template needs {input} and after it {output}");
    }
    const std::size_t begin = input + input_slot.size();
    const std::string_view between = text.substr(begin, output - begin);
    const std::size_t kept = between.find_last_not_of(' ') + 1;  // npos + 1 = 0: nothing but spaces
    return {text.substr(0, input), between.substr(0, kept), between.substr(kept), text.substr(output + output_slot.size())};
}
}  // namespace detail::task

/// What the model should go on with after question(): the answer with the spaces that the template has before it, because
/// tokens of byte-level vocabularies begin with a space rather than end with one.
[[nodiscard]] inline std::string answer(const Task& task, std::string_view output) {
    return std::string(detail::task::cut(task).spaces) += output;
}

/// The template up to {output}, without spaces at the end. What stands in `input` is not looked at for slots.
[[nodiscard]] inline std::string question(const Task& task, std::string_view input) {
    const detail::task::Template parts = detail::task::cut(task);
    return std::string(parts.before).append(input).append(parts.between);
}

/// The train examples at these indices, each as the whole template. Throws InvalidArgument for an index that is out of range.
[[nodiscard]] inline std::string few_shot_prefix(const Task& task, std::span<const std::size_t> shots) {
    const std::string_view after = detail::task::cut(task).after;
    std::string text;
    for (const std::size_t shot : shots) {
        if (shot >= task.train.size()) {
            fail(ErrorCode::InvalidArgument, "task ", detail::quoted(task.name), ": shot ", shot, ", there are ",
                 task.train.size(), " train examples");
        }
        const Example& example = task.train[shot];
        text.append(question(task, example.input)).append(answer(task, example.output)).append(after);
    }
    return text;
}

/// The first task.shots train examples: the same for every prompt, so that the prefix runs once.
[[nodiscard]] inline std::vector<std::size_t> default_shots(const Task& task) {
    std::vector<std::size_t> shots(task.shots);
    std::iota(shots.begin(), shots.end(), std::size_t{0});
    return shots;
}

/// Other shots, for training on prompts of many kinds: task.shots different train examples in random order, never `without`
/// (the question itself). The same seed gives the same shots everywhere. Throws InvalidArgument where there are too few.
[[nodiscard]] inline std::vector<std::size_t> pick_shots(const Task& task, std::uint64_t seed,
                                                         std::optional<std::size_t> without = std::nullopt) {
    std::vector<std::size_t> pool;
    for (std::size_t i = 0; i < task.train.size(); ++i) {
        if (i != without) pool.push_back(i);
    }
    if (pool.size() < task.shots) {
        fail(ErrorCode::InvalidArgument, "task ", detail::quoted(task.name), ": ", task.shots, " shots asked for, ",
             pool.size(), " train examples to pick from");
    }
    std::mt19937_64 random(seed);
    for (std::size_t i = 0; i < task.shots; ++i) {
        // Own arithmetic: what std::shuffle and std::uniform_int_distribution make of a seed differs from library to library.
        const std::uint64_t n = pool.size() - i;
        const std::uint64_t bound = (std::numeric_limits<std::uint64_t>::max)() / n * n;
        std::uint64_t drawn = random();
        while (drawn >= bound) drawn = random();
        std::swap(pool[i], pool[i + static_cast<std::size_t>(drawn % n)]);
    }
    pool.resize(task.shots);
    return pool;
}

/// Token sequences that begin alike: sequence i is `prefix`, then `rests[i]`.
struct EncodedPrompts {
    std::vector<TokenId> prefix;
    std::vector<std::vector<TokenId>> rests;  ///< none is empty
};

/// Cuts what all sequences have in common off, but leaves each at least one token, which is where its answer is read.
/// Throws InvalidArgument where there are no sequences or one is empty.
[[nodiscard]] inline EncodedPrompts share_prefix(std::vector<std::vector<TokenId>> sequences) {
    if (sequences.empty()) fail(ErrorCode::InvalidArgument, "no prompts");
    std::size_t common = sequences.front().size();
    for (const std::vector<TokenId>& ids : sequences) {
        if (ids.empty()) fail(ErrorCode::InvalidArgument, "a prompt has no tokens");
        const std::size_t most = (std::min)(common, ids.size() - 1);
        common = static_cast<std::size_t>(
            std::mismatch(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(most), sequences.front().begin()).first -
            ids.begin());
    }
    const auto cut = static_cast<std::ptrdiff_t>(common);
    EncodedPrompts result{{sequences.front().begin(), sequences.front().begin() + cut}, std::move(sequences)};
    for (std::vector<TokenId>& ids : result.rests) ids.erase(ids.begin(), ids.begin() + cut);
    return result;
}

/// The tokens of prefix + question for each question, exactly as if each prompt had been tokenized as a whole; with bos in
/// front where the model expects it. Text that spells a special token is plain text here. Throws InvalidArgument where there are
/// no questions or a prompt has no tokens.
[[nodiscard]] inline EncodedPrompts encode_prompts(const Tokenizer& tokenizer, std::string_view prefix,
                                                   std::span<const std::string> questions) {
    EncodeOptions options;
    options.parse_special = false;
    options.add_bos = tokenizer.adds_bos();
    std::vector<std::vector<TokenId>> sequences;
    sequences.reserve(questions.size());
    for (const std::string& text : questions) sequences.push_back(tokenizer.encode(std::string(prefix) += text, options));
    return share_prefix(std::move(sequences));
}

}  // namespace adainfer::inline v0
