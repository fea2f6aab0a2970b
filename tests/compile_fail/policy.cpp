// An exit policy that lacks one member, in a program that uses it as users do.
#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/generate/generate.hpp"

using Read = adainfer::FeatureList<adainfer::TopProb>;

struct Policy {
#if !defined(NO_FEATURES)
    using Features = Read;
#endif
#if defined(NO_STATE)
    struct Memory {};
#else
    struct State {};
    using Memory = State;
#endif

#if defined(MUTABLE_WANTS)
    bool wants(std::size_t) { return true; }
#elif !defined(NO_WANTS)
    bool wants(std::size_t) const { return true; }
#endif

#if defined(DECIDES_BOOL)
    bool decide(std::size_t, const Read::Values&, Memory&) const { return true; }
#elif defined(OTHER_FEATURE)
    adainfer::ExitDecision decide(std::size_t, const Read::Values& values, Memory&) const {
        return values.get<adainfer::Gap>() > 0.5F ? adainfer::ExitDecision::Exit : adainfer::ExitDecision::Continue;
    }
#elif !defined(NO_DECIDE)
    adainfer::ExitDecision decide(std::size_t, const Read::Values&, Memory&) const { return adainfer::ExitDecision::Exit; }
#endif

#if defined(WRONG_START)
    Memory start() const { return {}; }  // of no step
#else
    Memory start(std::size_t) const { return {}; }
#endif

#if defined(WRONG_SKIPS)
    bool skips(std::size_t) { return false; }  // not const
#else
    bool skips(std::size_t) const { return false; }
#endif

#if defined(NOT_MOVABLE)
    Policy() = default;
    Policy(const Policy&) = delete;
#endif
};

void run(adainfer::ModelWeights weights) {
    const adainfer::Model<adainfer::ReferenceBackend, Policy> model(std::move(weights));
    adainfer::Session session = model.new_session();
    const std::vector<adainfer::TokenId> prompt{1};
    adainfer::generate(model, session, prompt, {}, [](const adainfer::GeneratedToken&) {});
}
