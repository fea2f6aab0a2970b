#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/family.hpp"
#include "adainfer/io/gguf.hpp"
#include "adainfer/io/gguf_config.hpp"
#include "adainfer/io/identity.hpp"
#include "adainfer/io/read_weights.hpp"
#include "adainfer/kernels/dequantize.hpp"
#include "adainfer/kernels/vector_math.hpp"
#include "adainfer/model/decoder.hpp"
#include "adainfer/model/weights.hpp"

namespace adainfer::inline v0 {

namespace detail {

/// Reads the tensors of one file by name and remembers which, so that a tensor nobody asked for is noticed.
class TensorReader {
  public:
    explicit TensorReader(const GgufFile& file) : file_(file) {}

    [[nodiscard]] bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

    /// A matrix [rows, cols]. Throws CorruptFile (missing), ShapeMismatch, Unsupported (storage type).
    [[nodiscard]] WeightView matrix(const std::string& name, std::size_t rows, std::size_t cols) {
        const GgufTensor& tensor = file_.tensor(name);
        const WeightView weight = file_.weight(tensor);
        if (tensor.dims.size() > 2) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' has ", tensor.dims.size(),
                 " dimensions, expected [", rows, ", ", cols, "]");
        }
        if (weight.rows != rows || weight.cols != cols) {
            fail(ErrorCode::ShapeMismatch, "'", file_.name(), "': tensor '", name, "' is [", weight.rows, ", ", weight.cols,
                 "], expected [", rows, ", ", cols, "]");
        }
        read_.insert(name);
        return weight;
    }

    /// A vector [size] as floats. Throws as matrix() does, and NotFinite.
    [[nodiscard]] std::vector<float> vector(const std::string& name, std::size_t size) {
        const WeightView weight = matrix(name, 1, size);
        std::vector<float> values(size);
        dequantize_row(weight.dtype, weight.data, size, values.data());
        if (!all_finite(values.data(), size)) {
            fail(ErrorCode::NotFinite, "'", file_.name(), "': tensor '", name, "' holds NaN or infinity");
        }
        return values;
    }

    [[nodiscard]] WeightView projection(const std::string& name, std::size_t out, std::size_t in) { return matrix(name, out, in); }
    [[nodiscard]] std::vector<float> gain(const std::string& name, std::size_t size) { return vector(name, size); }
    [[nodiscard]] static LinearWeights qkv(LinearWeights stored) { return stored; }
    [[nodiscard]] std::string describe() const { return "'" + file_.name() + "'"; }

    /// Throws Unsupported for the first tensor that nobody read: a model that needs it would be silently wrong.
    void require_all_read(const ModelConfig& config) const {
        for (const GgufTensor& tensor : file_.tensors()) {
            if (read_.contains(tensor.name)) continue;
            fail(ErrorCode::Unsupported, "'", file_.name(), "': tensor ", detail::quoted(tensor.name), " is not part of a ",
                 config.architecture, " model of ", config.layers, " layers as this library runs it");
        }
    }

  private:
    const GgufFile& file_;
    std::set<std::string, std::less<>> read_;
};

inline std::string identity_of(const GgufFile& file, const ModelConfig& config) {
    Fingerprint fingerprint;
    for (const GgufTensor& tensor : file.tensors()) {
        fingerprint.add(tensor.name).add(std::uint64_t{tensor.type});
        for (const std::uint64_t dim : tensor.dims) fingerprint.add(dim);
        fingerprint.add_ends({tensor.data, static_cast<std::size_t>(tensor.bytes)});
    }
    return config.architecture + "-" + std::to_string(config.layers) + "x" + std::to_string(config.hidden) + "-" +
           fingerprint.text();
}

}  // namespace detail

/// The decoder of a GGUF file; matrices stay in the file's format, over the file's own bytes. Throws Unsupported
/// (architecture, storage type, a tensor that the library would ignore), CorruptFile, ShapeMismatch, NotFinite, Cancelled.
[[nodiscard]] inline ModelWeights load_weights(const GgufFile& file, const BuildOptions& options = {}) {
    ModelWeights model;
    const Family& family = detail::gguf_family(file);
    model.config = detail::read_config(file, family);
    detail::TensorReader tensors(file);
    detail::read_rope_factors(tensors, file, model.config);
    validate(model.config, tensors.describe());
    detail::WeightReader(tensors, family, gguf_names).read(model, options);
    tensors.require_all_read(model.config);
    model.identity = detail::identity_of(file, model.config);
    model.storage = file.storage();
    model.mapped = file.mapped();
    return model;
}

}  // namespace adainfer::inline v0
