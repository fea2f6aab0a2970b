#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "adainfer/core/types.hpp"
#include "adainfer/eval/prompt.hpp"
#include "adainfer/eval/task.hpp"
#include "adainfer/eval/task_prompts.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "adainfer/train/fit_lens.hpp"

namespace adainfer::inline v0 {

/// How prompts of tasks enter a lens.
struct TaskLensOptions {
    std::size_t prompts = 40;      ///< few-shot prompts a task
    float answer_weight = 10.0F;   ///< of a position where an answer is read; all other positions count 0
    std::uint64_t seed = 0;
};

/// Adds few-shot prompts of a task to a lens: questions and answers of the lens half of its train examples (and of its
/// shots) in random order, each position where an answer is read with its weight. Nothing of the policy half or of the test
/// examples is seen. Throws as LensFitter::add_prompt().
template <class Backend>
void add_task(LensFitter<Backend>& fitter, const Tokenizer& tokenizer, const Task& task, const TaskLensOptions& options = {}) {
    Task pool = without_policy_half(task);
    pool.shots = (std::min)(task.shots + 1, pool.train.size());
    EncodeOptions plain;
    plain.parse_special = false;
    for (std::size_t p = 0; p < options.prompts; ++p) {
        const std::vector<std::size_t> shots = pick_shots(pool, options.seed + p);
        std::vector<TokenId> tokens = tokenizer.encode(few_shot_prefix(pool, shots), plain);
        std::vector<float> weights(tokens.size());
        // An answer is read at the last token of its question. The first question has nothing to go by.
        for (std::size_t shot = 0; shot < shots.size(); ++shot) {
            const std::string up_to =
                few_shot_prefix(pool, std::span(shots).first(shot)) + question(pool, pool.train[shots[shot]].input);
            const std::size_t length = tokenizer.encode(up_to, plain).size();
            if (shot > 0 && length > 0 && length <= tokens.size()) weights[length - 1] = options.answer_weight;
        }
        fitter.add_prompt(tokens, weights);
    }
}

}  // namespace adainfer::inline v0
