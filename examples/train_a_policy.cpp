// Train an exit policy from scratch: lens, traces, classifier, threshold, use. A random model stands in for a real one, so that
// this needs no files and takes a second; `adainfer lens` and `adainfer train` do the same with real models and tasks.
#include <iostream>
#include <random>
#include <utility>
#include <vector>

#include "adainfer/adainfer.hpp"

using Tokens = std::vector<adainfer::TokenId>;

/// Text of a random model is random tokens.
Tokens random_tokens(std::size_t n, std::mt19937& random) {
    Tokens tokens(n);
    for (adainfer::TokenId& token : tokens) token = static_cast<adainfer::TokenId>(random() % 96);
    return tokens;
}

int main() {
    const adainfer::RandomModelOptions shape{.layers = 12, .hidden = 64, .head_dim = 16, .vocabulary = 96, .context = 256};
    const adainfer::Model dense(adainfer::make_random_model(shape), adainfer::NeverExit{}, adainfer::EigenBackend());
    std::mt19937 random(1);

    // 1. A lens: one linear map a layer from the hidden state to what the last layer makes of it.
    const adainfer::Schedule checks = adainfer::Schedule::every(1, 6);  // after layers 6, 7, ... 11
    adainfer::LensOptions how;
    how.schedule = checks;
    const adainfer::LinearLens lens = adainfer::fit_lens(dense, random_tokens(8192, random), how);

    // 2. Traces: what a policy would have read after each of those layers, and whether stopping there was right.
    adainfer::Session session = dense.new_session();
    std::vector<adainfer::Trace> traces;
    for (int i = 0; i < 600; ++i) {
        const Tokens prompt = random_tokens(8, random);
        traces.push_back(adainfer::collect_trace<adainfer::PaperFeatures>(dense, session, prompt, {}, std::nullopt, checks, lens,
                                                                          adainfer::FullHead{}));
    }
    const adainfer::Split split = adainfer::split_by_prompt(traces, 0.5);
    const auto train = adainfer::select_prompts(traces, split.train), held_out = adainfer::select_prompts(traces, split.held_out);

    // 3. A classifier: a linear support vector machine on the paper's two features.
    adainfer::LinearSvm svm = adainfer::train_svm(adainfer::to_sequences(train)).model;

    // 4. A threshold: the shallowest that still gives the last layer's answer on 90 % of the prompts kept back.
    const adainfer::Calibration calibration = adainfer::calibrate(adainfer::score_traces(svm, held_out), {.target = 0.9});
    svm.threshold = calibration.threshold;

    // 5. Use it. Lens and classifier are part of the policy's type, so a mismatch does not compile.
    using Policy = adainfer::AdaInferPolicy<adainfer::LinearSvm, adainfer::PaperFeatures, adainfer::LinearLens>;
    const auto model = dense.with_policy(Policy(svm, checks, lens));
    const int prompts = 200;
    int agree = 0;
    double layers = 0;
    for (int i = 0; i < prompts; ++i) {
        const Tokens prompt = random_tokens(8, random);
        const adainfer::Prediction fast = model.predict(session, prompt);
        const auto [token, exit_layer] = std::pair(fast.token, fast.exit_layer);
        agree += dense.predict(session, prompt).token == token ? 1 : 0;
        layers += static_cast<double>(exit_layer) / prompts;
    }
    std::cout << "calibrated: agreement " << calibration.agreement << ", " << calibration.mean_layers << " of 12 layers\n"
              << "new prompts: agreement " << static_cast<double>(agree) / prompts << ", " << layers << " of 12 layers\n";
    return calibration.met ? 0 : 1;
}
