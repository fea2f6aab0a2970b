// One model, several exit policies: with_policy() shares the weights, so that nothing is loaded or copied twice.
//     swap_policy [MODEL.gguf]
#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "adainfer/adainfer.hpp"
#include "example_model.hpp"

/// Continues what the session has read by 16 tokens, with whatever policy the model has.
template <class Model>
void show(const std::string& name, const Model& model, const adainfer::Tokenizer& tokenizer, const adainfer::Session& prompt_read,
          adainfer::TokenId first) {
    constexpr int count = 16;
    adainfer::Session session = prompt_read.clone();  // the prompt is not read again
    std::string text(tokenizer.token_bytes(first));
    double layers = 0;
    const auto start = std::chrono::steady_clock::now();
    adainfer::TokenId token = first;
    for (int i = 0; i < count; ++i) {
        const adainfer::Prediction next = model.decode(session, token);  // one token in, the next one out
        token = next.token;
        layers += static_cast<double>(next.exit_layer) / count;
        text += tokenizer.token_bytes(token);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::cout << "--- " << name << ": " << layers << " layers a token, " << count / seconds.count() << " tokens/s\n"
              << text << '\n';
}

int main(int argc, char** argv) try {
    adainfer::ModelFile file = adainfer::load_model(example_model(argc, argv));
    const adainfer::Tokenizer& tokenizer = file.tokenizer;
    const adainfer::Model dense(std::move(file.weights), adainfer::NeverExit{},
                                adainfer::SimdBackend(std::thread::hardware_concurrency()));

    adainfer::Session session = dense.new_session();
    const std::vector<adainfer::TokenId> prompt = tokenizer.encode("To make a cup of tea, first");
    const adainfer::TokenId first = dense.prefill_and_predict(session, prompt).token;

    // Checks after the later layers only: before, this model is sure of the wrong things.
    const auto late = adainfer::Schedule::every(2, 22);
    using adainfer::Scheduled;
    show("dense", dense, tokenizer, session, first);
    show("fixed", dense.with_policy(adainfer::ExitAtLayer(28)), tokenizer, session, first);
    show("gap", dense.with_policy(Scheduled(late, adainfer::GapThreshold<>(0.9F))), tokenizer, session, first);
    show("patience", dense.with_policy(Scheduled(late, adainfer::Patience(2))), tokenizer, session, first);
    // The same rule through a cheaper head: 256 tokens that were likely at the first check, in place of all 49,152.
    using ShortlistedGap = adainfer::GapThreshold<adainfer::LogitLens, adainfer::ShortlistHead>;
    const ShortlistedGap shortlisted(0.9F, {}, adainfer::ShortlistHead(256));
    show("shortlist", dense.with_policy(Scheduled(late, shortlisted)), tokenizer, session, first);
} catch (const adainfer::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
