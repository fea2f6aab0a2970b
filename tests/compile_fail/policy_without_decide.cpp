#include "adainfer/backend/reference.hpp"
#include "adainfer/early_exit/features.hpp"
#include "adainfer/model/model.hpp"

struct Policy {
    using Features = adainfer::FeatureList<adainfer::TopProb>;
    struct State {};
    bool wants(std::size_t) const { return true; }
#if !defined(ADAINFER_COMPILE_FAIL)
    adainfer::ExitDecision decide(std::size_t, const Features::Values&, State&) const { return adainfer::ExitDecision::Exit; }
#endif
};

using Checked = decltype(adainfer::Model<adainfer::ReferenceBackend, Policy>(adainfer::ModelWeights{}));
