// The smallest program: a tiny model of random weights, no files. It prints the tokens that the model chooses and after how
// many of its layers each of them was chosen.
#include <iostream>
#include <vector>

#include "adainfer/adainfer.hpp"

int main() {
    // Eight layers, 96 tokens. It says nothing sensible, but computes exactly what a real model does.
    adainfer::ModelWeights weights = adainfer::make_random_model({.layers = 8, .hidden = 64, .head_dim = 16, .seed = 4});

    // Three types say what runs: the backend that computes, the policy that says when to stop, and Model, which holds both.
    // This policy stops as soon as the likeliest token leads the second by more than 0.5.
    const adainfer::Model model(std::move(weights), adainfer::GapThreshold<>(0.5F), adainfer::SimdBackend());

    // A session is one conversation with the model: what it has read so far.
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{1, 2, 3};

    adainfer::GenerateOptions options;
    options.max_new_tokens = 10;
    const auto result = adainfer::generate(model, session, prompt, options, [](const adainfer::GeneratedToken& token) {
        std::cout << "token " << token.token << "\tafter layer " << token.exit_layer << " of " << token.layers << '\n';
    });
    std::cout << result.tokens << " tokens, " << result.mean_layers << " layers each on average\n";
}
