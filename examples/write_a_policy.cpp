// An exit policy of your own, in 20 lines: exit where the model has been sure for two checks in a row.
#include <iostream>
#include <vector>

#include "adainfer/adainfer.hpp"

/// Sure twice: the same top token as at the check before, and at both checks more probable than `sure`.
class SureTwice {
  public:
    // What decide() reads. Only these are computed: here logits, but no entropy.
    using Features = adainfer::FeatureList<adainfer::TopProb, adainfer::SameTopAsPrevious>;

    // What is remembered from check to check of one token.
    struct State {
        bool was_sure = false;
    };

    explicit SureTwice(float sure) : sure_(sure) {}

    // Asked before anything is computed, after `layer` layers: every second one from the second on.
    [[nodiscard]] bool wants(std::size_t layer) const { return layer >= 2 && layer % 2 == 0; }

    [[nodiscard]] adainfer::ExitDecision decide(std::size_t, const Features::Values& values, State& state) const {
        const bool sure = values.get<adainfer::TopProb>() > sure_;
        const bool twice = sure && state.was_sure && values.get<adainfer::SameTopAsPrevious>() > 0.5F;
        state.was_sure = sure;
        return twice ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }

  private:
    float sure_;
};

int main() {
    // A random model of 16 layers stands in for a real one.
    const adainfer::Model dense(adainfer::make_random_model({.layers = 16, .hidden = 64, .head_dim = 16}), adainfer::NeverExit{},
                                adainfer::SimdBackend());
    const auto model = dense.with_policy(SureTwice(0.5F));

    adainfer::Session session = model.new_session();
    adainfer::GenerateOptions options;
    options.max_new_tokens = 12;
    const std::vector<adainfer::TokenId> prompt{1, 2, 3};
    std::size_t early = 0;
    adainfer::generate(model, session, prompt, options, [&](const adainfer::GeneratedToken& token) {
        std::cout << "token " << token.token << "\tlayer " << token.exit_layer << "\tchecks " << token.checks << '\n';
        early += token.exit_layer < token.layers ? 1 : 0;
    });
    std::cout << early << " of " << options.max_new_tokens << " tokens exited early\n";
}
