#pragma once

#include <string>
#include <utility>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/model/model.hpp"
#include "command.hpp"
#include "progress_bar.hpp"

namespace cli {

/// What --products says.
[[nodiscard]] inline adainfer::SimdBackend::Products products_named(const std::string& name) noexcept {
    using enum adainfer::SimdBackend::Products;
    for (const auto products : {Exact, Bfloat16, Bits8}) {
        if (to_string(products) == name) return products;
    }
    return Fast;
}

/// f(backend) with the backend that the user chose.
template <class F>
decltype(auto) with_backend(const ModelOptions& options, F&& f) {
    if (options.backend == "xtensor") return f(adainfer::XtensorBackend(options.threads));
    if (options.backend == "reference") return f(adainfer::ReferenceBackend{});
    if (options.backend == "eigen") return f(adainfer::EigenBackend(options.threads));
    using Repack = adainfer::SimdBackend::Repack;
    const Repack repack = options.no_repack ? Repack::No : Repack::Yes;
    return f(adainfer::SimdBackend(options.threads, products_named(options.products), repack));
}

/// f(model, tokenizer) with the dense model; model.with_policy(make_policy(...)) gives it another policy.
template <class F>
void with_model(const ModelOptions& options, const Context& context, F&& f) {
    adainfer::ModelFile file = load(options.path, context);
    with_backend(options, [&]<class Backend>(Backend backend) {
        ProgressBar bar;
        const adainfer::Model<Backend> model(std::move(file.weights), {}, std::move(backend), {bar.callback(), context.stop});
        bar.clear();
        f(model, std::as_const(file.tokenizer));
    });
}

}  // namespace cli
