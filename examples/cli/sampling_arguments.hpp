#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>

#include "adainfer/core/error.hpp"
#include "adainfer/generate/sampler.hpp"
#include "command.hpp"

namespace cli {

/// How tokens are drawn: --temperature and its kind, for the commands that generate.
struct SamplingArguments {
    adainfer::SamplingOptions options;
    std::uint64_t seed = 0;

    void add_to(CLI::App& command) {
        command.add_option("--temperature", options.temperature, "randomness; 0: always the likeliest token")
            ->check(CLI::Range(0.0, 100.0))->type_name("T")->capture_default_str();
        command.add_option("--top-k", options.top_k, "draw from the K likeliest tokens only; 0: from all")
            ->check(CLI::NonNegativeNumber)->type_name("K")->capture_default_str();
        command.add_option("--top-p", options.top_p, "draw from the likeliest tokens that reach this probability together")
            ->check(CLI::Range(1e-6, 1.0))->type_name("P")->capture_default_str();
        command.add_option("--min-p", options.min_p, "draw from tokens at least so likely, relative to the likeliest")
            ->check(CLI::Range(0.0, 1.0))->type_name("P")->capture_default_str();
        command.add_option("--seed", seed, "of the random numbers")
            ->check(CLI::NonNegativeNumber)->type_name("S")->capture_default_str();
    }

    /// Throws UsageError for a value that no check of the command line finds, such as NaN.
    void validate() const {
        try {
            adainfer::validate(options);
        } catch (const adainfer::Error& error) {
            throw UsageError(error.what());
        }
    }
};

}  // namespace cli
