// libFuzzer target: any bytes are either a config.json whose numbers hold together, so that positions come out of it, or an
// Error; and the same for a model.safetensors.index.json.

#include <cstddef>
#include <cstdint>
#include <string>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_config.hpp"
#include "adainfer/io/hf_shards.hpp"
#include "adainfer/model/rope.hpp"
#include "checks.hpp"

namespace {

using namespace adainfer;
using fuzzing::require;

/// What the reader of the weights and the decoder rely on.
void use(const HfConfig& config) {
    const ModelConfig& model = config.model;
    validate(model, "'again'");
    require(config.family != nullptr && model.architecture == config.family->name);
    require(model.heads % model.kv_heads == 0);
    require(model.windowed.empty() || model.window > 0);
    require(model.rope.frequency_factors.size() <= std::size_t{1} << 15U);
    for (const RopeConfig* const rope : {&model.rope, &model.window_rope}) {
        for (const double frequency : rope_frequencies(*rope)) require(frequency >= 0);
    }
    for (std::size_t layer = 0; layer < model.layers; ++layer) require(model.window_of(layer) <= std::size_t{1} << 31U);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    try {
        use(parse_hf_config(text, "fuzzed"));
    } catch (const Error& error) {
        fuzzing::check_printable(error);
    }
    try {
        for (const auto& [tensor, file] : detail::read_weight_map(text, "fuzzed")) {
            require(!file.empty() && file != ".." && file.find('/') == std::string::npos && file.find('\\') == std::string::npos);
        }
    } catch (const Error& error) {
        fuzzing::check_printable(error);
    }
    return 0;
}
