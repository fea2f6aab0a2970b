#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>

/// The model file of the examples: the first argument, or ADAINFER_SMOLLM2 of the environment, or where
/// `examples/get_model.sh smollm2` puts it. Ends the program with code 77, which ctest counts as skipped, where there is none.
inline std::string example_model(int argc, char** argv) {
    const char* const environment = std::getenv("ADAINFER_SMOLLM2");
    const std::string path = argc > 1 ? argv[1] : environment != nullptr ? environment : "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (argc > 1 || std::filesystem::exists(path)) return path;
    std::cout << "skipped: no model at " << path << "; fetch one with examples/get_model.sh smollm2, or name one\n";
    std::exit(77);
}
