#pragma once

#include <string>

#include "adainfer/early_exit/cost.hpp"
#include "adainfer/model/weights.hpp"
#include "command.hpp"

namespace cli {

/// One sentence where the checks of a policy cost more than its exits can save; empty where they do not.
[[nodiscard]] std::string cost_warning(const std::string& name, const adainfer::PolicyCost& cost);

/// Warns on standard error about a policy that generates, a token at a time. Says whether it did.
bool warn_of_cost(const std::string& name, const adainfer::ModelWeights& weights, const Policy& policy);

/// The same of a cost that is known.
bool warn_of_cost(const std::string& name, const adainfer::PolicyCost& cost);

}  // namespace cli
