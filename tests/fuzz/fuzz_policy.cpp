// libFuzzer target: any bytes are either a policy, which can be written and read again, or an Error.
//     clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -I include tests/fuzz/fuzz_policy.cpp -o fuzz_policy
//     ./fuzz_policy -max_total_time=180 corpus/ tests/fuzz/policy/

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "adainfer/core/error.hpp"
#include "adainfer/early_exit/adainfer_policy.hpp"
#include "adainfer/early_exit/linear_svm.hpp"
#include "adainfer/io/load_policy.hpp"
#include "adainfer/io/policy_file.hpp"
#include "adainfer/model/weights.hpp"

namespace {

using namespace adainfer;

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    PolicyFile policy;
    try {
        policy = parse_policy_file(text, "fuzzed");
    } catch (const Error& error) {
        for (const char c : std::string_view(error.what())) require(c >= ' ' && c <= '~');  // nothing raw of the file in it
        return 0;
    }
    const std::string written = detail::policy::to_json(policy).dump(2);
    require(detail::policy::to_json(parse_policy_file(written, "written")).dump(2) == written);
    ModelWeights weights;
    weights.identity = policy.model_identity;
    weights.config.layers = 30;
    try {
        const auto loaded = make_policy<AdaInferPolicy<LinearSvm>>(policy, weights);
        for (const std::size_t layer : policy.layers) require(loaded.wants(layer));
    } catch (const Error& error) {
        require(error.code() == ErrorCode::IdentityMismatch);
    }
    return 0;
}
