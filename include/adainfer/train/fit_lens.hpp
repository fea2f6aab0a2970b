#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/progress.hpp"
#include "adainfer/early_exit/linear_lens.hpp"
#include "adainfer/early_exit/schedule.hpp"
#include "adainfer/model/model.hpp"

namespace adainfer::inline v0 {

struct LensOptions {
    Schedule schedule{};         ///< only the layers that will be checked get a map
    double ridge = 1e-4;         ///< penalty on the squared weights, relative to the mean square of the inputs (which is 1)
    std::size_t chunk = 256;     ///< tokens a pass
    std::size_t skip = 4;        ///< positions left out at the start of a pass: the first ones are unlike all others
    RunOptions run{};
};

/// Positions kept as they are: what a lens reads of each after the checked layers, and the final normed state.
struct LensSamples {
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

    std::vector<std::vector<float>> inputs;  ///< a checked layer: [count, hidden + 1], the last column 1
    std::vector<float> finals;               ///< [count, hidden]
    std::size_t count = 0;

    void add(const std::vector<RowMajor>& x, const RowMajor& y) {
        inputs.resize(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) inputs[i].insert(inputs[i].end(), x[i].data(), x[i].data() + x[i].size());
        finals.insert(finals.end(), y.data(), y.data() + y.size());
        count += static_cast<std::size_t>(y.rows());
    }
};

/// Collects the normal equations of a linear lens while text streams by. For each checked layer the ridge regression
///     min over M of  sum_t w_t |x_t M - y_t|^2 + ridge (sum_t w_t) |M|^2,
/// x_t = [lens_input(hidden state after the layer), 1], y_t = the final normed state of the same position. Memory: two
/// matrices [hidden + 1, hidden + 1] of doubles a layer.
template <class Backend>
class LensFitter {
  public:
    LensFitter(const Decoder<Backend>& decoder, LensOptions options)
        : decoder_(decoder), options_(std::move(options)), layers_(options_.schedule.layers(decoder.config().layers)),
          chunk_((std::min)((std::max)(options_.chunk, std::size_t{1}), decoder.config().context)), session_(session_for(chunk_)) {
        if (layers_.empty()) fail(ErrorCode::InvalidArgument, "the lens schedule names no layer of the model");
        const auto n = index(decoder.config().hidden);
        equations_.assign(layers_.size(), {Eigen::MatrixXd::Zero(n + 1, n + 1), Eigen::MatrixXd::Zero(n + 1, n)});
        inputs_.resize(layers_.size());
    }

    /// Adds every position of the text but the first `skip` of each chunk. Throws as Model::prefill() does.
    void add_text(std::span<const TokenId> tokens) {
        for (std::size_t done = 0; done < tokens.size(); done += chunk_) {
            const auto part = tokens.subspan(done, (std::min)(chunk_, tokens.size() - done));
            std::vector<std::size_t> positions;
            for (std::size_t t = options_.skip; t < part.size(); ++t) positions.push_back(t);
            if (!positions.empty()) add_chunk(part, positions, {});
            if (options_.run.progress) options_.run.progress({"fit lens", done + part.size(), tokens.size()});
        }
    }

    /// Adds one prompt whose positions count as much as `weights` [tokens] says; 0 leaves a position out. For prompts like
    /// those that a policy will see, with more weight where the answers are read. It may be longer than a chunk. Throws
    /// ContextOverflow where it is longer than the model's context, ShapeMismatch where weights and tokens differ in number, and
    /// as Model::prefill() does.
    void add_prompt(std::span<const TokenId> tokens, std::span<const float> weights) {
        if (weights.size() != tokens.size()) {
            fail(ErrorCode::ShapeMismatch, "a prompt of ", tokens.size(), " tokens came with ", weights.size(), " weights");
        }
        if (tokens.size() > decoder_.config().context) {
            fail(ErrorCode::ContextOverflow, "a prompt of ", tokens.size(), " tokens exceeds the model's context of ",
                 decoder_.config().context);
        }
        if (tokens.size() > session_.capacity()) session_ = session_for(tokens.size());
        std::vector<std::size_t> positions;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (weights[t] > 0) positions.push_back(t);
        }
        if (!positions.empty()) add_chunk(tokens, positions, weights);
    }

    /// From now on every position is also kept in `samples` (null: no longer), for refine_lens().
    void keep_samples(LensSamples* samples) noexcept { samples_ = samples; }

    /// Positions added so far.
    [[nodiscard]] std::size_t positions() const noexcept { return positions_; }

    /// Solves for the maps, closed form by Cholesky (LDLT). Throws InvalidArgument where too few positions were added.
    [[nodiscard]] LinearLens solve() const {
        const std::size_t hidden = decoder_.config().hidden;
        if (positions_ < hidden) {
            fail(ErrorCode::InvalidArgument, "a lens for ", hidden, " hidden units needs at least as many positions, found ",
                 positions_);
        }
        std::vector<LinearLens::Map> maps;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            Eigen::MatrixXd gram = equations_[i].gram.template selfadjointView<Eigen::Lower>();
            gram.diagonal().array() += options_.ridge * total_weight_;
            const Eigen::MatrixXd solution = gram.ldlt().solve(equations_[i].target);
            std::vector<float> numbers((hidden + 1) * hidden);
            Rows(numbers.data(), index(hidden + 1), index(hidden)) = solution.cast<float>();
            maps.push_back({layers_[i], std::move(numbers)});
        }
        return LinearLens(decoder_.weights().identity, hidden, std::move(maps));
    }

  private:
    using RowMajor = LensSamples::RowMajor;
    using Rows = Eigen::Map<RowMajor>;

    struct Equations {
        Eigen::MatrixXd gram;    // [hidden + 1, hidden + 1], lower half
        Eigen::MatrixXd target;  // [hidden + 1, hidden]
    };

    [[nodiscard]] Session session_for(std::size_t tokens) const {
        return {KvCache(decoder_.config(), tokens), decoder_.weights().identity};
    }

    static Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

    /// Adds some positions of the tokens, all with weight 1 where `weights` is empty.
    void add_chunk(std::span<const TokenId> tokens, std::span<const std::size_t> positions, std::span<const float> weights) {
        const std::size_t hidden = decoder_.config().hidden, rows = positions.size();
        decoder_.begin(session_, tokens);
        std::size_t next = 0;
        for (std::size_t layer = 1; layer <= decoder_.config().layers; ++layer) {
            if (options_.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "fitting the lens was cancelled");
            decoder_.run_layer(session_, layer - 1);
            if (next == layers_.size() || layers_[next] != layer) continue;
            RowMajor& x = inputs_[next++];
            x.resize(index(rows), index(hidden + 1));
            for (std::size_t i = 0; i < rows; ++i) {
                float* row = x.row(index(i)).data();
                lens_input(session_.work.hidden.row(positions[i]), {row, hidden});
                row[hidden] = 1.0F;
            }
        }
        RowMajor y(index(rows), index(hidden));
        for (std::size_t i = 0; i < rows; ++i) {
            decoder_.final_norm(session_.work.hidden.row(positions[i]), {y.row(index(i)).data(), hidden});
        }
        if (samples_ != nullptr) samples_->add(inputs_, y);
        Eigen::VectorXf weight = Eigen::VectorXf::Ones(index(rows));
        if (!weights.empty()) {
            for (std::size_t i = 0; i < rows; ++i) weight[index(i)] = weights[positions[i]];
        }
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            // Products of one chunk in float, their sum over chunks in double.
            const RowMajor weighted = weight.asDiagonal() * inputs_[i];
            const RowMajor gram = weighted.transpose() * inputs_[i], target = weighted.transpose() * y;
            equations_[i].gram += gram.template cast<double>();
            equations_[i].target += target.template cast<double>();
        }
        positions_ += rows;
        total_weight_ += static_cast<double>(weight.sum());
    }

    const Decoder<Backend>& decoder_;
    LensOptions options_;
    std::vector<std::size_t> layers_;
    std::size_t chunk_;
    Session session_;
    std::vector<Equations> equations_;
    std::vector<RowMajor> inputs_;
    std::size_t positions_ = 0;
    double total_weight_ = 0;
    LensSamples* samples_ = nullptr;
};

/// The lens of a text in one call. Throws as LensFitter does.
template <class Backend, class Policy, class Completion>
[[nodiscard]] LinearLens fit_lens(const Model<Backend, Policy, Completion>& model, std::span<const TokenId> text,
                                  const LensOptions& options = {}) {
    LensFitter<Backend> fitter(model.decoder(), options);
    fitter.add_text(text);
    return fitter.solve();
}

}  // namespace adainfer::inline v0
