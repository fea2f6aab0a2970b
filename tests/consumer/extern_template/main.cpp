#include <exception>
#include <iostream>
#include <vector>

#include "review_model.hpp"

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: consumer MODEL\n";
        return 2;
    }
    try {
        const ReviewModel model = load_review_model(argv[1]);
        adainfer::Session session = new_session(model);
        const std::vector<adainfer::TokenId> prompt{1, 2, 3, 4, 5};
        const adainfer::LabelSet labels = adainfer::LabelSet::from_tokens({{7}, {11}});
        const adainfer::Classification answer = adainfer::classify(model, session, prompt, labels);
        std::cout << "label " << answer.label << " after " << answer.exit_layer << " of " << answer.layers << " layers, "
                  << answer.checks << " checks\n";
        return answer.label == most_likely(model, session, prompt, labels) && answer.probabilities.size() == 2 ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
