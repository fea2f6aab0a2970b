#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/generate/score.hpp"
#include "adainfer/kernels/top_two.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/tokenize/tokenizer.hpp"

namespace adainfer::inline v0 {

/// The answers that a classification chooses from, as token sequences. A label is the text exactly as it continues the
/// prompt, so mostly with a leading space: " positive" after "Sentiment:".
class LabelSet {
  public:
    /// Throws InvalidArgument, naming the label: no labels, an empty one, the same one twice, or one that begins another
    /// (it is always at least as likely as the longer one, which could never be chosen). Throws UnknownToken where the
    /// vocabulary cannot express a label.
    LabelSet(const Tokenizer& tokenizer, std::vector<std::string> labels) : names_(std::move(labels)) {
        tokens_.reserve(names_.size());
        for (const std::string& name : names_) {
            tokens_.push_back(tokenizer.encode(
                name, {.parse_special = false, .space_prefix = false, .missing_byte = MissingByte::Throw}));
        }
        check();
    }

    /// From token sequences; the names, for messages, may be left out. Throws InvalidArgument as above.
    [[nodiscard]] static LabelSet from_tokens(std::vector<std::vector<TokenId>> tokens, std::vector<std::string> names = {}) {
        LabelSet set;
        set.tokens_ = std::move(tokens);
        set.names_ = std::move(names);
        if (set.names_.empty()) {
            for (std::size_t i = 0; i < set.size(); ++i) set.names_.push_back("label " + std::to_string(i));
        }
        if (set.names_.size() != set.size()) {
            fail(ErrorCode::InvalidArgument, "a label set of ", set.size(), " token sequences got ", set.names_.size(), " names");
        }
        set.check();
        return set;
    }

    [[nodiscard]] std::size_t size() const noexcept { return tokens_.size(); }
    [[nodiscard]] const std::string& name(std::size_t label) const { return names_[label]; }
    [[nodiscard]] std::span<const TokenId> tokens(std::size_t label) const { return tokens_[label]; }

    /// The first token of each label.
    [[nodiscard]] std::span<const TokenId> first_tokens() const noexcept { return first_; }

    /// True where the first tokens tell the labels apart: then one next-token prediction decides.
    [[nodiscard]] bool distinct() const noexcept { return distinct_; }

  private:
    LabelSet() = default;

    void check() {
        if (tokens_.empty()) fail(ErrorCode::InvalidArgument, "a label set needs at least one label");
        for (std::size_t i = 0; i < tokens_.size(); ++i) {
            if (tokens_[i].empty()) fail(ErrorCode::InvalidArgument, "label ", i, " is empty");
            if (std::find(first_.begin(), first_.end(), tokens_[i][0]) != first_.end()) distinct_ = false;
            first_.push_back(tokens_[i][0]);
            for (std::size_t j = 0; j < i; ++j) {
                if (tokens_[j].size() <= tokens_[i].size()) check_pair(j, i);
                else check_pair(i, j);
            }
        }
    }

    void check_pair(std::size_t shorter, std::size_t longer) const {
        if (!std::equal(tokens_[shorter].begin(), tokens_[shorter].end(), tokens_[longer].begin())) return;
        if (tokens_[shorter].size() == tokens_[longer].size()) {
            fail(ErrorCode::InvalidArgument, "the label '", names_[longer], "' stands twice");
        }
        fail(ErrorCode::InvalidArgument, "the label '", names_[shorter], "' begins '", names_[longer],
             "', which could never be chosen: end both with what follows them, e.g. a line break");
    }

    std::vector<std::string> names_;
    std::vector<std::vector<TokenId>> tokens_;
    std::vector<TokenId> first_;
    bool distinct_ = true;
};

struct Classification {
    std::size_t label = 0;             ///< index of the likeliest label
    std::vector<float> probabilities;  ///< [labels], relative to each other: they sum to 1
    std::size_t exit_layer = 0;        ///< layers run, 1 to layers
    std::size_t layers = 0;            ///< layers of the model
    std::size_t checks = 0;            ///< how often the policy was consulted
};

namespace detail {
template <class Model>
Classification classify_by_first_token(const Model& model, Session& session, std::span<const TokenId> prompt,
                                       const LabelSet& labels, const RunOptions& options) {
    const std::span<const TokenId> candidates = labels.first_tokens();
    const Prediction prediction = model.predict(session, prompt, candidates, options);
    Classification result{0, {}, prediction.exit_layer, prediction.layers, prediction.checks};
    for (const TokenId candidate : candidates) {
        auto column = static_cast<std::size_t>(candidate);
        if (!prediction.columns.empty()) {
            const auto found = std::find(prediction.columns.begin(), prediction.columns.end(), candidate);
            if (found == prediction.columns.end()) {
                fail(ErrorCode::InvalidArgument, "the policy's head computed no logit for the candidate token ", candidate);
            }
            column = static_cast<std::size_t>(std::distance(prediction.columns.begin(), found));
        }
        result.probabilities.push_back(prediction.logits[column]);
    }
    softmax(result.probabilities.data(), result.probabilities.size());
    const auto best = std::find(candidates.begin(), candidates.end(), prediction.token);
    result.label = static_cast<std::size_t>(std::distance(candidates.begin(), best));
    return result;
}

template <class Model>
Classification classify_by_score(const Model& model, Session& session, std::span<const TokenId> prompt, const LabelSet& labels,
                                 const RunOptions& options) {
    for (std::size_t i = 0; i < labels.size(); ++i) require_tokens(labels.tokens(i), model.config().vocabulary);
    const RewindAtEnd rewind(session);
    std::vector<Score> scores(labels.size());
    const Prediction next = model.prefill_and_predict(session, prompt, options);
    const TopTwo top = top_two(next.logits);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        add(scores[i], log_probability(next.logits, top, labels.first_tokens()[i]));
    }
    const RunOptions silent{.stop = options.stop, .progress = {}};  // progress counts the prompt only
    for (std::size_t i = 0; i < labels.size(); ++i) score_rest(model, session, labels.tokens(i), scores[i], silent);

    const auto best = std::max_element(scores.begin(), scores.end(),
                                       [](const Score& a, const Score& b) { return a.log_probability < b.log_probability; });
    Classification result{static_cast<std::size_t>(best - scores.begin()), {}, next.layers, next.layers, 0};
    for (const Score& score : scores) {
        result.probabilities.push_back(static_cast<float>(score.log_probability - best->log_probability));
    }
    softmax(result.probabilities.data(), result.probabilities.size());
    return result;
}
}  // namespace detail

/// Which label follows the session's positions and `prompt`. Where the first tokens tell the labels apart it is the likeliest
/// first token, as deep as the exit policy lets the prompt run; otherwise the likeliest whole label, at full depth. The session
/// stays as it was: run a few-shot prefix once with Model::prefill and classify many prompts after it.
/// Throws what Model::predict throws.
template <class Model>
[[nodiscard]] Classification classify(const Model& model, Session& session, std::span<const TokenId> prompt,
                                      const LabelSet& labels, const RunOptions& options = {}) {
    return labels.distinct() ? detail::classify_by_first_token(model, session, prompt, labels, options)
                             : detail::classify_by_score(model, session, prompt, labels, options);
}

/// The same for text; bos goes first where the session is empty and the model expects it. Special tokens written out in the
/// text are not recognised as such.
template <class Model>
[[nodiscard]] Classification classify(const Model& model, Session& session, const Tokenizer& tokenizer, std::string_view prompt,
                                      const LabelSet& labels, const RunOptions& options = {}) {
    const bool add_bos = session.length() == 0 && tokenizer.adds_bos();
    return classify(model, session, tokenizer.encode(prompt, {.parse_special = false, .add_bos = add_bos}), labels, options);
}

}  // namespace adainfer::inline v0
