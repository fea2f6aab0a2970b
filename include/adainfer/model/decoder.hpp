#pragma once

#include <array>
#include <cstddef>
#include <optional>
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
#include "adainfer/kernels/thread_scratch.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/decoder_layer.hpp"
#include "adainfer/model/norm.hpp"
#include "adainfer/model/rope.hpp"
#include "adainfer/model/session.hpp"
#include "adainfer/model/weights.hpp"
#include "adainfer/tensor/dtype.hpp"
#include "adainfer/tensor/release_pages.hpp"

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
          frequencies_(rope_frequencies(weights_.config.rope)), window_frequencies_(rope_frequencies(weights_.config.window_rope)) {
        if (!weights_.embedding_in.weight.empty()) embedding_in_.emplace(backend_, weights_.embedding_in);
        if (!weights_.embedding_out.weight.empty()) embedding_out_.emplace(backend_, weights_.embedding_out);
        release(std::array{&weights_.head, &weights_.embedding_in, &weights_.embedding_out});
        layers_.reserve(weights_.layers.size());
        for (const LayerWeights& layer : weights_.layers) {
            if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "loading '", config().name, "' was cancelled");
            layers_.emplace_back(backend_, layer);
            release(layer.matrices());
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
        session.make_room(tokens.size());
        const MatrixView<float> hidden = work.hidden.resize(tokens.size(), config().hidden);
        const WeightView& embedding = weights_.token_embedding;
        const MatrixView<float> embedded = embedding_in_ ? work.projected.resize(tokens.size(), embedding.cols) : hidden;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (tokens[t] < 0 || static_cast<std::size_t>(tokens[t]) >= config().vocabulary) {
                fail(ErrorCode::UnknownToken, "token ", tokens[t], " at position ", session.length() + t,
                     " is outside the vocabulary of ", config().vocabulary);
            }
            float* const row = embedded.row(t).data();
            dequantize_row(embedding.dtype, embedding.row(static_cast<std::size_t>(tokens[t])), embedding.cols, row);
            if (config().embedding_scale != 1.0F) {
                for (std::size_t i = 0; i < embedding.cols; ++i) row[i] *= config().embedding_scale;
            }
        }
        if (embedding_in_) embedding_in_->apply(backend_, embedded, hidden);
        if (!weights_.position_embedding.empty()) add_positions(session.length(), hidden);
        locate(session);
    }

    /// Sets the rotation angles of the rows of work.hidden for the positions from session.length() on. Part of begin().
    void locate(Session& session) const {
        Workspace& work = session.work;
        const std::size_t rows = work.hidden.view().rows();
        angles(config().rope, frequencies_, session.length(), rows, work.cos, work.sin);
        angles(config().window_rope, window_frequencies_, session.length(), rows, work.window_cos, work.window_sin);
    }

    /// Runs layer `layer` (0 is the first) on the hidden state. Throws NotFinite, naming layer and position.
    void run_layer(Session& session, std::size_t layer) const {
        layers_[layer].run(backend_, config(), layer, session.work, session.cache);
        const MatrixView<float> hidden = session.work.hidden.view();
        const std::size_t bad = ops::first_not_finite(backend_, hidden);
        if (bad == hidden.rows()) return;
        fail(ErrorCode::NotFinite, "hidden state after layer ", layer + 1, " at position ", session.length() + bad,
             " holds NaN or infinity");
    }

    /// Writes the K/V rows of `layer` from the hidden state as it is, without running the layer. Throws NotFinite likewise.
    void write_kv(Session& session, std::size_t layer) const {
        layers_[layer].write_kv(backend_, config(), layer, session.work, session.cache);
    }

    /// out [hidden] = the final norm of one hidden state [hidden].
    void final_norm(std::span<const float> hidden, std::span<float> out) const {
        final_norm(MatrixView<const float>(hidden.data(), 1, hidden.size()), {out.data(), 1, out.size()});
    }

    /// The same for several states [tokens, hidden].
    void final_norm(MatrixView<const float> hidden, MatrixView<float> out) const {
        apply_norm(backend_, config(), weights_.final_norm, hidden, out);
    }

    /// Logits [vocabulary] of one final-normed (or lens-read) state [hidden].
    void logits(std::span<const float> normed, std::span<float> out) const {
        logits(MatrixView<const float>(normed.data(), 1, normed.size()), {out.data(), 1, out.size()});
    }

    /// The same for several states [tokens, hidden], [tokens, vocabulary].
    void logits(MatrixView<const float> normed, MatrixView<float> out) const { head_.apply(backend_, project_out(normed), out); }

    /// Logits [tokens.size()] of those tokens only.
    void logits(std::span<const float> normed, std::span<const TokenId> tokens, std::span<float> out) const {
        const MatrixView<const float> state = project_out({normed.data(), 1, normed.size()});
        ops::matmul_rows(backend_, head_.prepared, head_.weight, tokens, state.row(0), out);
        if (head_.bias.empty()) return;
        for (std::size_t i = 0; i < tokens.size(); ++i) out[i] += head_.bias[static_cast<std::size_t>(tokens[i])];
    }

  private:
    /// Gives the pages of the file that hold weights which the backend has copied back to the system.
    void release(std::span<const LinearWeights* const> prepared) const noexcept {
        if constexpr (requires { backend_.repacks(DType::F32); }) {
            if (!weights_.mapped) return;
            for (const LinearWeights* each : prepared) {
                if (backend_.repacks(each->weight.dtype)) release_pages({each->weight.data, each->weight.bytes()});
            }
        }
    }

    void add_positions(std::size_t first, MatrixView<float> hidden) const {
        struct Slot;
        const WeightView& positions = weights_.position_embedding;
        const std::span<float> row = thread_scratch<Slot>(positions.cols);
        for (std::size_t t = 0; t < hidden.rows(); ++t) {
            dequantize_row(positions.dtype, positions.row(first + t + config().position_offset), positions.cols, row.data());
            axpy(1.0F, row.data(), hidden.row(t).data(), positions.cols);
        }
    }

    static void angles(const RopeConfig& rope, const std::vector<double>& frequencies, std::size_t first, std::size_t tokens,
                       Buffer& cos, Buffer& sin) {
        if (frequencies.empty()) return;
        rope_angles(frequencies, rope.amplitude, first, cos.resize(tokens, rope.dims / 2), sin.resize(tokens, rope.dims / 2));
    }

    /// What the head reads: the state itself, or projected to the width of a token embedding, valid until the next call.
    [[nodiscard]] MatrixView<const float> project_out(MatrixView<const float> normed) const {
        if (!embedding_out_) return normed;
        struct Slot;
        const std::size_t size = config().embedding_size();
        const MatrixView<float> out(thread_scratch<Slot>(normed.rows() * size).data(), normed.rows(), size);
        embedding_out_->apply(backend_, normed, out);
        return out;
    }

    ModelWeights weights_;
    Backend backend_;
    Linear<Backend> head_;
    std::optional<Linear<Backend>> embedding_in_, embedding_out_;
    std::vector<double> frequencies_, window_frequencies_;
    std::vector<DecoderLayer<Backend>> layers_;
};

}  // namespace adainfer::inline v0
