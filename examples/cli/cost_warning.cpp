#include "cost_warning.hpp"

#include <cstdint>
#include <iostream>

namespace cli {

std::string cost_warning(const std::string& name, const adainfer::PolicyCost& cost) {
    if (!cost.loses()) return {};
    const auto amount = [&](std::uint64_t value) {
        const auto number = static_cast<double>(value);
        return cost.one_token ? as_bytes(number) : fixed(number / 1e6, 1) + " million multiplications";
    };
    std::string text = "policy '" + name + "' costs " + (cost.one_token ? "a token" : "a prompt") + " that exits nowhere " +
                       amount(cost.most_lost()) + " more than the dense model, ";
    if (cost.most_saved() == 0) {
        text += "and none of its exits saves anything";
    } else {
        text += "and its best exit, after layer " + std::to_string(cost.best_exit()->layer) + ", saves " +
                amount(cost.most_saved()) + " (exits pay up to layer " + std::to_string(cost.deepest_paying()) + ")";
    }
    return text + "; ask it after fewer layers (layers=) or for fewer logits (head=shortlist)";
}

bool warn_of_cost(const std::string& name, const adainfer::PolicyCost& cost) {
    const std::string text = cost_warning(name, cost);
    if (!text.empty()) std::cerr << "warning: " << text << '\n';
    return !text.empty();
}

bool warn_of_cost(const std::string& name, const adainfer::ModelWeights& weights, const Policy& policy) {
    return warn_of_cost(name, adainfer::cost(weights, policy));
}

}  // namespace cli
