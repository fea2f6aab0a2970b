#pragma once

#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/backend/ops.hpp"
#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/lens_matrix.hpp"
#include "adainfer/kernels/at_level.hpp"
#include "adainfer/kernels/cpu.hpp"
#include "adainfer/kernels/vector_math.hpp"

namespace adainfer::inline v0 {

/// 1 / (rms(x) + 1e-6), what takes the length from a hidden state.
[[nodiscard]] inline float lens_scale(std::span<const float> hidden) noexcept {
    const auto n = static_cast<float>(hidden.size());
    return 1.0F / (std::sqrt(dot(hidden.data(), hidden.data(), hidden.size()) / n) + 1e-6F);
}

/// What a linear lens reads: out [hidden] = x / (rms(x) + 1e-6), the hidden state without its length.
inline void lens_input(std::span<const float> hidden, std::span<float> out) noexcept {
    const float scale = lens_scale(hidden);
    for (std::size_t i = 0; i < hidden.size(); ++i) out[i] = hidden[i] * scale;
}

/// An affine map a layer from the normalised hidden state to the state that the head reads: what the model would have
/// made of it in its remaining layers, as far as a linear map can say. Cheap to copy: the maps are shared.
class LinearLens {
  public:
    static constexpr std::string_view name = "linear";

    /// The map after `layer` layers.
    struct Map {
        std::size_t layer = 0;
        LensMatrix matrix;  ///< from [hidden] to [hidden]
    };

    LinearLens() = default;

    /// Throws InvalidArgument for a map of the wrong size, a layer that stands twice, or numbers that are not finite.
    LinearLens(std::string model_identity, std::size_t hidden, std::vector<Map> maps) {
        auto data = std::make_shared<Data>();
        data->model_identity = std::move(model_identity);
        data->hidden = hidden;
        for (Map& map : maps) {
            if (!map.matrix.is_square(hidden)) {
                fail(ErrorCode::InvalidArgument, "linear lens: the map of layer ", map.layer, " has ", map.matrix.size(),
                     " numbers, expected ", numbers(hidden), ": [", hidden + 1, ", ", hidden, "]");
            }
            if (!map.matrix.is_finite()) {
                fail(ErrorCode::NotFinite, "linear lens: the map of layer ", map.layer, " holds NaN or infinity");
            }
            if (map.layer >= data->slot.size()) data->slot.resize(map.layer + 1, none);
            if (data->slot[map.layer] != none) fail(ErrorCode::InvalidArgument, "linear lens: layer ", map.layer, " stands twice");
            data->slot[map.layer] = data->maps.size();
            data->maps.push_back(std::move(map));
        }
        data_ = std::move(data);
    }

    /// Equal where the maps are the same ones, shared.
    [[nodiscard]] friend bool operator==(const LinearLens& a, const LinearLens& b) noexcept { return a.data_ == b.data_; }

    /// Numbers that apply() multiplies with, for the cost model.
    [[nodiscard]] static constexpr std::size_t numbers(std::size_t hidden) noexcept { return (hidden + 1) * hidden; }

    /// Bytes that apply() reads after the layer, for the cost model; 0 where it cannot read there.
    [[nodiscard]] std::size_t bytes(std::size_t layer) const noexcept { return reads(layer) ? matrix(layer).bytes() : 0; }

    [[nodiscard]] bool reads(std::size_t layer) const noexcept {
        return data_ && layer < data_->slot.size() && data_->slot[layer] != none;
    }

    /// out [hidden] = the map of the layer times the hidden state [hidden] without its length, on the backend's threads and at its
    /// level; the result does not depend on the number of threads. Precondition: reads(layer).
    template <class Decoder>
    void apply(const Decoder& decoder, std::size_t layer, std::span<const float> hidden, std::span<float> out) const {
        const LensMatrix& map = matrix(layer);
        const float scale = lens_scale(hidden);
        if constexpr (requires { decoder.backend(); }) {
            const CpuLevel level = ops::level_of(decoder.backend());
            ops::parallel_for(decoder.backend(), hidden.size(), LensMatrix::lanes, [&](std::size_t begin, std::size_t end) {
                at_level(level, [&] { map.multiply(hidden, scale, begin, end, out); });
            });
        } else {
            map.multiply(hidden, scale, 0, hidden.size(), out);
        }
    }

    /// Throws IdentityMismatch where the lens was fitted on other weights, or is empty.
    template <class Weights>
    void check_model(const Weights& weights) const {
        if (!data_) fail(ErrorCode::IdentityMismatch, "the linear lens is empty: load or fit one first");
        if (data_->model_identity != weights.identity || data_->hidden != weights.config.hidden) {
            fail(ErrorCode::IdentityMismatch, "the linear lens was fitted on model ", data_->model_identity, ", not on ",
                 weights.identity);
        }
    }

    [[nodiscard]] const std::string& model_identity() const { return data().model_identity; }
    [[nodiscard]] std::size_t hidden() const { return data().hidden; }
    [[nodiscard]] const std::vector<Map>& maps() const { return data().maps; }

  private:
    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    struct Data {
        std::string model_identity;
        std::size_t hidden = 0;
        std::vector<Map> maps;
        std::vector<std::size_t> slot;  // layer -> index into maps
    };

    [[nodiscard]] const LensMatrix& matrix(std::size_t layer) const noexcept { return data_->maps[data_->slot[layer]].matrix; }

    [[nodiscard]] const Data& data() const {
        if (!data_) fail(ErrorCode::InvalidArgument, "the linear lens is empty");
        return *data_;
    }

    std::shared_ptr<const Data> data_;
};

}  // namespace adainfer::inline v0
