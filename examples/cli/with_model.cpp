#include "with_model.hpp"

#include <string>
#include <utility>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/io/model_file.hpp"
#include "progress_bar.hpp"

namespace cli {

namespace {

/// What --products says.
adainfer::SimdBackend::Products products_named(const std::string& name) noexcept {
    using enum adainfer::SimdBackend::Products;
    for (const auto products : {Exact, Bfloat16, Bits12, Bits8}) {
        if (to_string(products) == name) return products;
    }
    return Fast;
}

adainfer::AnyBackend chosen_backend(const ModelOptions& options) {
    if (options.backend == "xtensor") return adainfer::XtensorBackend(options.threads);
    if (options.backend == "reference") return adainfer::ReferenceBackend{};
    if (options.backend == "eigen") return adainfer::EigenBackend(options.threads);
    using Repack = adainfer::SimdBackend::Repack;
    return adainfer::SimdBackend(options.threads, products_named(options.products), options.no_repack ? Repack::No : Repack::Yes);
}

}  // namespace

void with_model(const ModelOptions& options, const Context& context,
                const std::function<void(const DenseModel& model, const adainfer::Tokenizer& tokenizer)>& f) {
    adainfer::ModelFile file = load(options, context);
    ProgressBar bar;
    const DenseModel model(std::move(file.weights), {}, chosen_backend(options), {bar.callback(), context.stop});
    bar.clear();
    f(model, file.tokenizer);
}

}  // namespace cli
