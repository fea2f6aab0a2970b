#include "adainfer/backend/simd.hpp"

#include <doctest/doctest.h>

#include <string>

#include "adainfer/io/gguf_model.hpp"
#include "golden.hpp"

// SimdBackend at every level that this machine has, on f32 models, where exact products round nothing.

namespace test_simd {

using namespace adainfer;

TEST_CASE("SimdBackend: Llama models of odd sizes, one thread and three") {
    for (const char* const variant : {"mha", "gqa", "odd", "linear_rope", "llama3_rope", "bias", "head_dim"}) {
        CAPTURE(variant);
        const GgufFile file = GgufFile::open(std::string(ADAINFER_FIXTURES) + "/llama_" + variant + ".gguf");
        for (const CpuLevel level : cpu_levels()) {
            CAPTURE(to_string(level));
            for (const std::size_t threads : {std::size_t{1}, std::size_t{3}}) {
                check_golden(load_weights(file), read_golden(file), SimdBackend(threads, level, SimdBackend::Products::Exact));
            }
        }
    }
}

}  // namespace test_simd
