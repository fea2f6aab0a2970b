#pragma once

#include <cstddef>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "adainfer/backend/concept.hpp"
#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/core/progress.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/decoder_layer.hpp"
#include "adainfer/model/rope.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

/// Reporting and cancelling while a model is built.
struct BuildOptions {
    Progress progress{};
    std::stop_token stop{};
};

/// The weights of one model, prepared for one backend, and the steps of a forward pass. It knows nothing of exit policies:
/// models of different policies share one Decoder. Immutable; every member may be called from many threads.
template <class Backend>
class Decoder {
  public:
    /// Throws Cancelled where options.stop was requested, and whatever the backend throws.
    Decoder(ModelWeights weights, Backend backend, const BuildOptions& options = {})
        : weights_(std::move(weights)), backend_(std::move(backend)), head_(backend_, weights_.head),
          rope_frequencies_(rope_frequencies(weights_.config.rope)) {
        layers_.reserve(weights_.layers.size());
        for (const LayerWeights& layer : weights_.layers) {
            if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading '", config().name, "' was cancelled");
            layers_.emplace_back(backend_, layer);
            if (options.progress) options.progress({"prepare weights", layers_.size(), weights_.layers.size()});
        }
    }

    Decoder(const Decoder&) = delete;  // layers point into weights_
    Decoder& operator=(const Decoder&) = delete;

    [[nodiscard]] const ModelConfig& config() const noexcept { return weights_.config; }
    [[nodiscard]] const ModelWeights& weights() const noexcept { return weights_; }
    [[nodiscard]] const Backend& backend() const noexcept { return backend_; }

    /// Starts a pass: the embeddings of the tokens as hidden state, the angles of their positions. Throws UnknownToken.
    void begin(Session& session, std::span<const TokenId> tokens) const {
        Workspace& work = session.work;
        const MatrixView<float> hidden = work.hidden.resize(tokens.size(), config().hidden);
        const WeightView& embedding = weights_.token_embedding;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (tokens[t] < 0 || static_cast<std::size_t>(tokens[t]) >= config().vocabulary) {
                fail(ErrorCode::UnknownToken, "token ", tokens[t], " at position ", session.length() + t,
                     " is outside the vocabulary of ", config().vocabulary);
            }
            dequantize_row(embedding.dtype, embedding.row(static_cast<std::size_t>(tokens[t])), embedding.cols, hidden.row(t).data());
        }
        const std::size_t pairs = config().rope.dims / 2;
        rope_angles(rope_frequencies_, session.length(), work.cos.resize(tokens.size(), pairs), work.sin.resize(tokens.size(), pairs));
    }

    /// Runs layer `layer` (0 is the first) on the hidden state. Throws NotFinite, naming layer and position.
    void run_layer(Session& session, std::size_t layer) const {
        layers_[layer].run(backend_, config(), layer, session.work, session.cache);
        const MatrixView<float> hidden = session.work.hidden.view();
        for (std::size_t t = 0; t < hidden.rows(); ++t) {
            if (!all_finite(hidden.row(t).data(), hidden.cols())) {
                fail(ErrorCode::NotFinite, "hidden state after layer ", layer + 1, " at position ", session.length() + t,
                     " holds NaN or infinity");
            }
        }
    }

    /// Writes the K/V rows of `layer` from the hidden state as it is, without running the layer. Throws NotFinite likewise.
    void write_kv(Session& session, std::size_t layer) const {
        layers_[layer].write_kv(backend_, config(), layer, session.work, session.cache);
    }

    /// out [hidden] = the final norm of one hidden state [hidden].
    void final_norm(std::span<const float> hidden, std::span<float> out) const {
        ops::rms_norm(backend_, {hidden.data(), 1, hidden.size()}, weights_.final_norm, config().norm_eps,
                      {out.data(), 1, out.size()});
    }

    /// Logits [vocabulary] of one final-normed (or lens-read) state [hidden].
    void logits(std::span<const float> normed, std::span<float> out) const {
        head_.apply(backend_, {normed.data(), 1, normed.size()}, {out.data(), 1, out.size()});
    }

    /// Logits [tokens.size()] of those tokens only.
    void logits(std::span<const float> normed, std::span<const TokenId> tokens, std::span<float> out) const {
        ops::matmul_rows(backend_, head_.prepared, head_.weight, tokens, normed, out);
        if (head_.bias.empty()) return;
        for (std::size_t i = 0; i < tokens.size(); ++i) out[i] += head_.bias[static_cast<std::size_t>(tokens[i])];
    }

  private:
    ModelWeights weights_;
    Backend backend_;
    Linear<Backend> head_;
    std::vector<double> rope_frequencies_;
    std::vector<DecoderLayer<Backend>> layers_;
};

}  // namespace adainfer::inline v0
