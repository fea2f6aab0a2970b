// Chat with a model: the answer appears token by token.
//     generate_streaming [MODEL.gguf [QUESTION]]
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "adainfer/adainfer.hpp"
#include "example_model.hpp"

int main(int argc, char** argv) try {
    adainfer::ModelFile file = adainfer::load_model(example_model(argc, argv));
    const adainfer::Tokenizer& tokenizer = file.tokenizer;
    const adainfer::Model model(std::move(file.weights), adainfer::NeverExit{},
                                adainfer::SimdBackend(std::thread::hardware_concurrency()));

    // The model's own chat template puts the turns into the text that it was trained on.
    const std::vector<adainfer::ChatMessage> messages{{"user", argc > 2 ? argv[2] : "Name three colours of the rainbow."}};
    const std::vector<adainfer::TokenId> prompt = tokenizer.encode(adainfer::render_chat(tokenizer, messages));

    adainfer::GenerateOptions options;
    options.max_new_tokens = 48;
    options.sampling.temperature = 0.7F;
    options.sampling.top_p = 0.9F;
    options.seed = 7;
    options.is_end = [&](adainfer::TokenId token) { return tokenizer.is_end_of_generation(token); };

    // A character may be spread over several tokens: the decoder holds back what is not complete. Special tokens are left out.
    adainfer::StreamDecoder decoder(tokenizer, true);
    adainfer::Session session = model.new_session(prompt.size() + options.max_new_tokens);
    const auto result = adainfer::generate(model, session, prompt, options, [&](const adainfer::GeneratedToken& token) {
        std::cout << decoder.push(token.token) << std::flush;
        return adainfer::Flow::Continue;  // Flow::Stop ends the answer here
    });
    std::cout << decoder.finish() << "\n[" << result.tokens << " tokens, ended by: " << to_string(result.reason) << "]\n";
} catch (const adainfer::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
