// Classify sentences: few-shot examples are read once, then each sentence runs only as deep as it has to.
//     classify [MODEL.gguf]
// Tasks and their prompts are in the part of the library that needs nlohmann/json: link adainfer::json, or define
// ADAINFER_WITH_JSON before the include.
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "adainfer/adainfer.hpp"
#include "example_model.hpp"

int main(int argc, char** argv) try {
    adainfer::ModelFile file = adainfer::load_model(example_model(argc, argv));
    const adainfer::Tokenizer& tokenizer = file.tokenizer;

    // Exit where one label leads the other by more than 0.7, but not before layer 20: before, this model is sure of the wrong
    // things. CandidateHead computes the logits of the labels only, so that a check costs next to nothing.
    const adainfer::GapThreshold<adainfer::LogitLens, adainfer::CandidateHead> sure(0.7F);
    const adainfer::Model model(std::move(file.weights), adainfer::Scheduled(adainfer::Schedule::every(1, 20), sure),
                                adainfer::SimdBackend(std::thread::hardware_concurrency()));

    const std::string examples =
        "Review: A dull, endless film.\nSentiment: negative\n\n"
        "Review: What a joy from start to finish!\nSentiment: positive\n\n"
        "Review: I want my two hours back.\nSentiment: negative\n\n"
        "Review: Warm, funny and beautifully acted.\nSentiment: positive\n\n";
    const std::vector<std::string> sentences{"The plot makes no sense at all and the jokes fall flat.",
                                             "One of the best evenings I have had in years.",
                                             "The waiter was rude and the soup was cold."};

    // Labels are written as they continue the prompt: with a space in front.
    const adainfer::LabelSet labels(tokenizer, {" negative", " positive"});
    std::vector<std::string> questions;
    for (const std::string& sentence : sentences) questions.push_back("Review: " + sentence + "\nSentiment:");
    const adainfer::EncodedPrompts prompts = adainfer::encode_prompts(tokenizer, examples, questions);

    adainfer::Session session = model.new_session();
    model.prefill(session, prompts.prefix);  // what all prompts begin with: once
    for (std::size_t i = 0; i < sentences.size(); ++i) {
        const adainfer::Classification answer = adainfer::classify(model, session, prompts.rests[i], labels);
        std::cout << labels.name(answer.label) << "  (P = " << answer.probabilities[answer.label] << ", layer "
                  << answer.exit_layer << " of " << answer.layers << ")  " << sentences[i] << '\n';
    }
} catch (const adainfer::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
