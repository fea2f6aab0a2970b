#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/forward_pass.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/tensor/matrix_view.hpp"

namespace adainfer::inline v0 {

/// How much each layer of the dense model turns the hidden state: BI of a layer = 1 - mean over all positions of the cosine
/// between the states before and after it (ShortGPT, arXiv 2403.03853, section 3). 0 is a layer that changes no direction.
/// [layers], layer 1 first. Each sequence stands alone, from position 0. The model's policy plays no part.
///
/// Throws InvalidArgument (no sequence, or an empty one) and as Model::prefill() does. options.progress counts sequences.
template <class Backend, class Policy, class Completion>
[[nodiscard]] std::vector<double> block_influence(const Model<Backend, Policy, Completion>& model,
                                                  std::span<const std::vector<TokenId>> sequences,
                                                  const RunOptions& options = {}) {
    const Decoder<Backend>& decoder = model.decoder();
    const std::size_t layers = model.config().layers;
    std::size_t longest = 0, positions = 0;
    for (const std::vector<TokenId>& sequence : sequences) {
        if (sequence.empty()) fail(ErrorCode::InvalidArgument, "block_influence: a sequence is empty");
        longest = (std::max)(longest, sequence.size());
        positions += sequence.size();
    }
    if (positions == 0) fail(ErrorCode::InvalidArgument, "block_influence: no sequences");

    Session session = model.new_session(longest);
    std::vector<float> before;
    std::vector<double> cosines(layers);
    for (std::size_t done = 0; done < sequences.size();) {
        const std::span<const TokenId> sequence = sequences[done];
        session.rewind(0);
        while (session.length() < sequence.size()) {
            const std::size_t rows = (std::min)(rows_at_once, sequence.size() - session.length());
            decoder.begin(session, sequence.subspan(session.length(), rows));
            const MatrixView<float> hidden = session.work.hidden.view();
            for (std::size_t layer = 0; layer < layers; ++layer) {
                if (options.stop.stop_requested()) fail(ErrorCode::Cancelled, "block_influence: stopped in sequence ", done + 1);
                before.assign(hidden.data(), hidden.data() + rows * hidden.cols());
                decoder.run_layer(session, layer);
                for (std::size_t t = 0; t < rows; ++t) {
                    const float value = cosine(before.data() + t * hidden.cols(), hidden.row(t).data(), hidden.cols());
                    cosines[layer] += static_cast<double>(value);
                }
            }
            session.cache.set_length(session.length() + rows);
        }
        ++done;
        if (options.progress) options.progress({"block influence", done, sequences.size()});
    }
    for (double& value : cosines) value = 1 - value / static_cast<double>(positions);
    return cosines;
}

/// The n layers of least influence, ascending and counted from 1, for SkipLayers; of equals the earlier ones. Throws
/// InvalidArgument where there are fewer.
[[nodiscard]] inline std::vector<std::size_t> least_influential(std::span<const double> influence, std::size_t n) {
    if (n > influence.size()) fail(ErrorCode::InvalidArgument, "cannot choose ", n, " of ", influence.size(), " layers");
    std::vector<std::size_t> layers(influence.size());
    std::iota(layers.begin(), layers.end(), std::size_t{1});
    const auto less = [&](std::size_t a, std::size_t b) { return influence[a - 1] < influence[b - 1]; };
    std::stable_sort(layers.begin(), layers.end(), less);
    layers.resize(n);
    std::sort(layers.begin(), layers.end());
    return layers;
}

}  // namespace adainfer::inline v0
