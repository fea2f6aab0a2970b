#pragma once

#include <utility>

#include "adainfer/backend/eigen.hpp"
#include "adainfer/backend/reference.hpp"
#include "adainfer/backend/simd.hpp"
#include "adainfer/backend/xtensor.hpp"
#include "adainfer/model/model.hpp"
#include "command.hpp"
#include "progress_bar.hpp"

namespace cli {

/// f(backend) with the backend that the user chose.
template <class F>
decltype(auto) with_backend(const ModelOptions& options, F&& f) {
    if (options.backend == "xtensor") return f(adainfer::XtensorBackend(options.threads));
    if (options.backend == "reference") return f(adainfer::ReferenceBackend{});
    if (options.backend == "eigen") return f(adainfer::EigenBackend(options.threads));
    return f(adainfer::SimdBackend(options.threads));
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
