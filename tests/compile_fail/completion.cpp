// A completion that does not fit, in a program that uses it as users do.
#include "adainfer/backend/reference.hpp"
#include "adainfer/generate/generate.hpp"

struct Nothing {};

#if defined(GENERATE_WITH_DISCARD)
using Completion = adainfer::Discard;
#elif defined(NO_KEEPS_SESSION)
using Completion = Nothing;
#else
using Completion = adainfer::PropagateHidden;
#endif

void run(adainfer::ModelWeights weights) {
    const adainfer::Model<adainfer::ReferenceBackend, adainfer::NeverExit, Completion> model(std::move(weights));
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{1};
    adainfer::generate(model, session, prompt, {}, [](const adainfer::GeneratedToken&) {});
}
