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

/// Collects the normal equations of a linear lens while text streams by. For each checked layer the ridge regression
///     min over M of  sum_t |x_t M - y_t|^2 + ridge n |M|^2,
/// x_t = [lens_input(hidden state after the layer), 1], y_t = the final normed state of the same position. Memory: two
/// matrices [hidden + 1, hidden + 1] of doubles a layer.
template <class Backend>
class LensFitter {
  public:
    LensFitter(const Decoder<Backend>& decoder, LensOptions options)
        : decoder_(decoder), options_(std::move(options)), layers_(options_.schedule.layers(decoder.config().layers)),
          session_(KvCache(decoder.config(), (std::min)((std::max)(options_.chunk, std::size_t{1}), decoder.config().context)),
                   decoder.weights().identity) {
        if (layers_.empty()) fail(ErrorCode::InvalidArgument, "the lens schedule names no layer of the model");
        const auto n = index(decoder.config().hidden);
        equations_.assign(layers_.size(), {Eigen::MatrixXd::Zero(n + 1, n + 1), Eigen::MatrixXd::Zero(n + 1, n)});
        inputs_.resize(layers_.size());
    }

    /// Adds every position of the text but the first `skip` of each chunk. Throws as Model::prefill() does.
    void add_text(std::span<const TokenId> tokens) {
        const std::size_t chunk = session_.capacity();
        for (std::size_t done = 0; done < tokens.size(); done += chunk) {
            const auto part = tokens.subspan(done, (std::min)(chunk, tokens.size() - done));
            if (part.size() > options_.skip) add_chunk(part, options_.skip);
            if (options_.run.progress) options_.run.progress({"fit lens", done + part.size(), tokens.size()});
        }
    }

    /// Positions added so far.
    [[nodiscard]] std::size_t positions() const noexcept { return positions_; }

    /// Solves for the maps, closed form by Cholesky (LDLT). Throws InvalidArgument where too few positions were added.
    [[nodiscard]] LinearLens solve() const {
        const std::size_t hidden = decoder_.config().hidden;
        if (positions_ < hidden) {
            fail(ErrorCode::InvalidArgument, "a lens for ", hidden, " hidden units needs at least as many positions, found ", positions_);
        }
        std::vector<LinearLens::Map> maps;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            Eigen::MatrixXd gram = equations_[i].gram.template selfadjointView<Eigen::Lower>();
            gram.diagonal().array() += options_.ridge * static_cast<double>(positions_);
            const Eigen::MatrixXd solution = gram.ldlt().solve(equations_[i].target);
            LinearLens::Map map{layers_[i], std::vector<float>((hidden + 1) * hidden)};
            Rows(map.matrix.data(), index(hidden + 1), index(hidden)) = solution.cast<float>();
            maps.push_back(std::move(map));
        }
        return LinearLens(decoder_.weights().identity, hidden, std::move(maps));
    }

  private:
    using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Rows = Eigen::Map<RowMajor>;

    struct Equations {
        Eigen::MatrixXd gram;    // [hidden + 1, hidden + 1], lower half
        Eigen::MatrixXd target;  // [hidden + 1, hidden]
    };

    static Eigen::Index index(std::size_t n) noexcept { return static_cast<Eigen::Index>(n); }

    void add_chunk(std::span<const TokenId> tokens, std::size_t skip) {
        const std::size_t hidden = decoder_.config().hidden, rows = tokens.size() - skip;
        decoder_.begin(session_, tokens);
        std::size_t next = 0;
        for (std::size_t layer = 1; layer <= decoder_.config().layers; ++layer) {
            if (options_.run.stop.stop_requested()) fail(ErrorCode::Cancelled, "fitting the lens was cancelled");
            decoder_.run_layer(session_, layer - 1);
            if (next == layers_.size() || layers_[next] != layer) continue;
            RowMajor& x = inputs_[next++];
            x.resize(index(rows), index(hidden + 1));
            for (std::size_t t = 0; t < rows; ++t) {
                float* row = x.row(index(t)).data();
                lens_input(session_.work.hidden.row(skip + t), {row, hidden});
                row[hidden] = 1.0F;
            }
        }
        RowMajor y(index(rows), index(hidden));
        for (std::size_t t = 0; t < rows; ++t) {
            decoder_.final_norm(session_.work.hidden.row(skip + t), {y.row(index(t)).data(), hidden});
        }
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            // Products of one chunk in float, their sum over chunks in double.
            const RowMajor gram = inputs_[i].transpose() * inputs_[i], target = inputs_[i].transpose() * y;
            equations_[i].gram += gram.template cast<double>();
            equations_[i].target += target.template cast<double>();
        }
        positions_ += rows;
    }

    const Decoder<Backend>& decoder_;
    LensOptions options_;
    std::vector<std::size_t> layers_;
    Session session_;
    std::vector<Equations> equations_;
    std::vector<RowMajor> inputs_;
    std::size_t positions_ = 0;
};

/// The lens of a text in one call. Throws as LensFitter does.
template <class Backend, class Policy, class Completion>
[[nodiscard]] LinearLens fit_lens(const Model<Backend, Policy, Completion>& model, std::span<const TokenId> text, const LensOptions& options = {}) {
    LensFitter<Backend> fitter(model.decoder(), options);
    fitter.add_text(text);
    return fitter.solve();
}

}  // namespace adainfer::inline v0
