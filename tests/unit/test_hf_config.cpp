#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/io/hf_config.hpp"
#include "adainfer/model/rope.hpp"
#include "errors.hpp"

// The expected defaults are those of the configuration classes of transformers 5; fixtures/compare_hf_config.py compares
// thousands of configurations with them.

namespace test_hf_config {

using namespace adainfer;

namespace {

HfConfig parse(std::string_view text) { return parse_hf_config(text, "config.json"); }

/// A config.json of this type with these members.
std::string of_type(std::string_view type, std::string_view members = {}) {
    return "{\"model_type\":\"" + std::string(type) + "\"" + (members.empty() ? "" : ",") + std::string(members) + "}";
}

std::string refused(std::string_view type, std::string_view members, ErrorCode code = ErrorCode::CorruptFile) {
    const std::string message = error_of(code, [&] { static_cast<void>(parse(of_type(type, members))); });
    CHECK(contains(message, "'config.json': "));
    return message;
}

/// layers, hidden, heads, kv_heads, head_dim, feed_forward, vocabulary, context
std::vector<std::size_t> sizes(const ModelConfig& c) {
    return {c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.feed_forward, c.vocabulary, c.context};
}

using Sizes = std::vector<std::size_t>;

constexpr std::string_view small =
    R"("hidden_size":32,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":50)";

}  // namespace

TEST_CASE("config.json: the defaults of every model type") {
    const HfConfig llama = parse(of_type("llama"));
    CHECK(sizes(llama.model) == Sizes{32, 4096, 32, 32, 128, 11008, 32000, 2048});
    CHECK(llama.model.norm_eps == 1e-6F);
    CHECK(llama.model.activation == Activation::Silu);
    CHECK(llama.model.rope.base == 10000);
    CHECK_FALSE(llama.model.rope.interleaved);
    CHECK(llama.model.rope.dims == 128);
    CHECK(llama.model.window == 0);
    CHECK_FALSE(llama.tied);
    CHECK_FALSE(llama.qkv_bias);

    const HfConfig mistral = parse(of_type("mistral"));
    CHECK(sizes(mistral.model) == Sizes{32, 4096, 32, 8, 128, 14336, 32000, 131072});
    CHECK(mistral.model.window == 4096);
    CHECK(mistral.model.window_of(0) == 4096);

    const HfConfig qwen2 = parse(of_type("qwen2"));
    CHECK(sizes(qwen2.model) == Sizes{32, 4096, 32, 32, 128, 22016, 151936, 32768});
    CHECK(qwen2.model.window == 0);
    CHECK(qwen2.qkv_bias);
    CHECK_FALSE(qwen2.output_bias);

    const HfConfig qwen3 = parse(of_type("qwen3", R"("hidden_size":1024,"num_attention_heads":16,"num_key_value_heads":8)"));
    CHECK(qwen3.model.head_dim == 128);
    CHECK(qwen3.model.attention_scale == doctest::Approx(1 / std::sqrt(128.0)));
    CHECK_FALSE(qwen3.qkv_bias);

    const HfConfig gemma = parse(of_type("gemma3_text"));
    CHECK(sizes(gemma.model) == Sizes{26, 2304, 8, 4, 256, 9216, 262208, 131072});
    CHECK(gemma.model.embedding_scale == 48);
    CHECK(gemma.model.attention_scale == 1.0F / 16);
    CHECK(gemma.model.activation == Activation::GeluTanh);
    CHECK(gemma.model.rope.base == 1e6);
    CHECK(gemma.model.window_rope.base == 1e4);
    CHECK(gemma.model.window_of(0) == 4096);
    CHECK(gemma.model.window_of(5) == 0);
    CHECK(gemma.model.window_of(6) == 4096);
    CHECK(gemma.tied);

    const HfConfig phi3 = parse(of_type("phi3"));
    CHECK(sizes(phi3.model) == Sizes{32, 3072, 32, 32, 96, 8192, 32064, 4096});
    CHECK(phi3.model.norm_eps == 1e-5F);
    CHECK(phi3.model.window == 0);

    const HfConfig neox = parse(of_type("gpt_neox"));
    CHECK(sizes(neox.model) == Sizes{44, 6144, 64, 64, 96, 24576, 50432, 2048});
    CHECK(neox.model.rope.dims == 24);
    CHECK(neox.model.parallel_blocks);
    CHECK(neox.model.norm == NormKind::Layer);
    CHECK(neox.model.activation == Activation::Gelu);
    CHECK(neox.qkv_bias);
    CHECK(neox.feed_forward_bias);
    CHECK_FALSE(neox.tied);

    const HfConfig gpt2 = parse(of_type("gpt2"));
    CHECK(sizes(gpt2.model) == Sizes{12, 768, 12, 12, 64, 3072, 50257, 1024});
    CHECK(gpt2.model.rope.dims == 0);
    CHECK(gpt2.model.position_offset == 0);
    CHECK(gpt2.model.activation == Activation::GeluTanh);
    CHECK(gpt2.tied);

    const HfConfig opt = parse(of_type("opt"));
    CHECK(sizes(opt.model) == Sizes{12, 768, 12, 12, 64, 3072, 50272, 2048});
    CHECK(opt.model.position_offset == 2);
    CHECK(opt.model.norm_eps == 1e-5F);
    CHECK(opt.model.norm_placement == NormPlacement::Before);
    CHECK(opt.model.activation == Activation::Relu);
    CHECK(opt.model.embedding == 0);
    CHECK(opt.qkv_bias);
    CHECK(opt.tied);
}

TEST_CASE("config.json: members of the families") {
    CHECK(parse(of_type("llama", R"("num_key_value_heads":null,"head_dim":null)")).model.kv_heads == 32);
    CHECK(parse(of_type("llama", R"("head_dim":64)")).model.head_dim == 64);
    const HfConfig biased = parse(of_type("llama", R"("attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true)"));
    CHECK(biased.qkv_bias);
    CHECK(biased.output_bias);
    CHECK(biased.feed_forward_bias);
    CHECK(biased.tied);
    CHECK(parse(of_type("mistral", R"("sliding_window":null)")).model.window == 0);
    CHECK(parse(of_type("llama", R"("sliding_window":7)")).model.window == 0);  // no member of its class
    CHECK(parse(of_type("phi3", R"("sliding_window":7)")).model.window == 7);

    const std::string windowed = R"("use_sliding_window":true,"sliding_window":9,"max_window_layers":2,"num_hidden_layers":4)";
    const ModelConfig qwen2 = parse(of_type("qwen2", windowed)).model;
    CHECK(qwen2.window == 9);
    CHECK(qwen2.windowed == std::vector<bool>{false, false, true, true});
    CHECK(qwen2.window_rope.dims == 0);
    const std::string listed = R"(,"layer_types":["sliding_attention","full_attention","full_attention","sliding_attention"])";
    CHECK(parse(of_type("qwen3", windowed + listed)).model.windowed == std::vector<bool>{true, false, false, true});

    const ModelConfig gpt2 = parse(of_type("gpt2", R"("n_inner":100,"scale_attn_weights":false,"n_embd":48)")).model;
    CHECK(gpt2.feed_forward == 100);
    CHECK(gpt2.attention_scale == 1);
    CHECK(parse(of_type("gpt2", R"("n_inner":null,"n_embd":48)")).model.feed_forward == 192);
    CHECK_FALSE(parse(of_type("gpt_neox", R"("use_parallel_residual":false,"attention_bias":false)")).qkv_bias);

    const ModelConfig opt350 =
        parse(of_type("opt",
                      R"("hidden_size":1024,"num_attention_heads":16,"word_embed_proj_dim":512,"do_layer_norm_before":false)"))
            .model;
    CHECK(opt350.embedding == 512);
    CHECK(opt350.embedding_size() == 512);
    CHECK(opt350.norm_placement == NormPlacement::After);
    CHECK_FALSE(parse(of_type("opt", R"("enable_bias":false)")).qkv_bias);

    const HfConfig outer =
        parse(of_type("gemma3", R"("text_config":{"hidden_size":640,"num_hidden_layers":2},"vision_config":{})"));
    CHECK(outer.model.hidden == 640);
    CHECK(outer.model.layers == 2);
    CHECK(outer.model_type == "gemma3");
    CHECK(outer.tied);
    const ModelConfig every_second = parse(of_type("gemma3_text", R"("sliding_window_pattern":2,"num_hidden_layers":3)")).model;
    CHECK(every_second.windowed == std::vector<bool>{true, false, true});
}

TEST_CASE("config.json: rotary positions in both spellings") {
    const auto rope = [](std::string_view type, const std::string& members) {
        return parse(of_type(type, std::string(small) + "," + members)).model.rope;
    };
    CHECK(rope("llama", R"("rope_theta":500000.0)").base == 500000);
    CHECK(rope("llama", R"("rope_theta":7,"rope_scaling":null)").base == 7);
    CHECK(rope("llama", R"("rope_parameters":{"rope_type":"default","rope_theta":7})").base == 7);
    CHECK(rope("llama", R"("rope_theta":9,"rope_parameters":{"rope_type":"default"})").base == 9);
    for (const std::string_view spelling :
         {R"("rope_scaling":{"type":"linear","factor":4.0})", R"("rope_scaling":{"rope_type":"linear","factor":4.0})",
          R"("rope_parameters":{"rope_type":"linear","factor":4.0,"rope_theta":10000})"}) {
        CHECK(rope("llama", std::string(spelling)).linear_factor == 4);
        CHECK(rope("llama", std::string(spelling)).base == 10000);
    }

    // By hand: a head of 8 has wavelengths 2 pi * 10000^(i / 4) = 6.28, 62.8, 628, 6283. Above 512 / 1 they are stretched by
    // 8, below 512 / 4 = 128 left alone; so 628 and 6283 by 8.
    const RopeConfig llama3 = rope("llama", R"("rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
                                            R"("high_freq_factor":4.0,"original_max_position_embeddings":512})");
    CHECK(llama3.frequency_factors == std::vector<float>{1, 1, 8, 8});
    // With 1024: 628 lies between 256 and 1024; smooth = (1024 / 628.32 - 1) / 3 = 0.20992; 1 / ((1 - s) / 8 + s) = 3.2396.
    const RopeConfig between = rope("llama", R"("rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
                                             R"("high_freq_factor":4.0,"original_max_position_embeddings":1024})");
    CHECK(between.frequency_factors[2] == doctest::Approx(3.2396).epsilon(1e-4));

    // By hand: of 4096 positions pair 8 ln(4096 / (32 * 2 pi)) / (2 ln 10000) = 1.3 turns 32 times and pair 2.8 once, so pairs 0 and 1
    // stay, pair 3 is stretched by 4, and pair 2 lies half way: 1 / (0.5 / 4 + 0.5) = 1.6.
    const std::string yarn = R"("rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":4096)";
    const std::string wide = R"("max_position_embeddings":8192,)";
    CHECK(rope("llama", wide + yarn + "}").frequency_factors == std::vector<float>{1, 1, 1.6F, 4});
    CHECK(rope("llama", wide + yarn + "}").amplitude == doctest::Approx(1 + 0.1 * std::log(4.0)));
    CHECK(rope("llama", wide + yarn + R"(,"attention_factor":1.5})").amplitude == 1.5);
    CHECK(rope("llama", wide + yarn + R"(,"mscale":0.707,"mscale_all_dim":1.0})").amplitude ==
          doctest::Approx((1 + 0.0707 * std::log(4.0)) / (1 + 0.1 * std::log(4.0))));
    CHECK(parse(of_type("llama", std::string(small) + "," + wide + yarn + "}")).model.context == 16384);
    const ModelConfig dynamic = parse(of_type("llama", std::string(small) + "," + wide + R"("rope_scaling":{"type":"dynamic","factor":2.0})")).model;
    CHECK(dynamic.rope.frequency_factors.empty());
    CHECK(dynamic.context == 8192);

    const std::string factors = R"("short_factor":[1,2,3,4],"long_factor":[5,6,7,8])";
    for (const std::string_view type : {"longrope", "su"}) {
        const ModelConfig phi3 = parse(of_type("phi3", std::string(small) + R"(,"max_position_embeddings":4096,)" +
                                                           R"("original_max_position_embeddings":64,"rope_scaling":{"type":")" +
                                                           std::string(type) + "\"," + factors + "}"))
                                     .model;
        CHECK(phi3.rope.frequency_factors == std::vector<float>{1, 2, 3, 4});
        CHECK(phi3.context == 64);
        // sqrt(1 + ln(4096 / 64) / ln(64)) = sqrt(2)
        CHECK(phi3.rope.amplitude == doctest::Approx(std::sqrt(2.0)));
    }
    CHECK(rope("phi3", R"("rope_scaling":{"type":"longrope","attention_factor":1.5,)" + factors + "}").amplitude == 1.5);
    CHECK(rope("phi3", R"("rope_scaling":{"type":"longrope",)" + factors + "}").amplitude == 1);  // 4096 of 4096
    CHECK(rope("phi3", R"("partial_rotary_factor":0.75)").dims == 6);
    CHECK(rope("gpt_neox", R"("rotary_pct":0.5,"rotary_emb_base":99)").dims == 4);
    CHECK(rope("gpt_neox", R"("rotary_pct":0.5,"rotary_emb_base":99)").base == 99);
    CHECK(rope("gpt_neox", R"("rope_theta":99,"rotary_pct":1.0)").base == 10000);  // the class knows only rotary_emb_base

    const ModelConfig old = parse(of_type("gemma3_text", R"("rope_theta":5,"rope_local_base_freq":6,)"
                                                         R"("rope_scaling":{"rope_type":"linear","factor":8.0})"))
                                .model;
    CHECK(old.rope.base == 5);
    CHECK(old.rope.linear_factor == 8);
    CHECK(old.window_rope.base == 6);
    CHECK(old.window_rope.linear_factor == 1);
    const ModelConfig fresh =
        parse(of_type("gemma3_text", R"("rope_parameters":{"full_attention":{"rope_type":"linear",)"
                                     R"("factor":8.0,"rope_theta":5},"sliding_attention":{"rope_theta":6}})"))
            .model;
    CHECK(fresh.rope.base == 5);
    CHECK(fresh.rope.linear_factor == 8);
    CHECK(fresh.window_rope.base == 6);
    CHECK(fresh.window_rope.linear_factor == 1);
}

TEST_CASE("config.json: what the decoder lacks is said, not left out") {
    const auto unsupported = [](std::string_view type, std::string_view members) {
        return refused(type, members, ErrorCode::Unsupported);
    };
    const std::string unknown = unsupported("bert", "");
    CHECK(
        contains(unknown, "model_type 'bert'; supported: llama, mistral, qwen2, qwen3, gemma3_text, phi3, gpt2, gpt_neox, opt"));
    CHECK(contains(error_of(ErrorCode::Unsupported, [] { static_cast<void>(parse("{}")); }), "model_type ''"));
    for (const std::string_view type : {"proportional", "x"}) {
        const std::string message =
            unsupported("llama", R"("rope_scaling":{"factor":2.0,"rope_type":")" + std::string(type) + "\"}");
        CHECK(contains(message, "rope type '" + std::string(type) + "'; supported: default, linear, llama3, longrope, yarn, dynamic"));
    }
    CHECK(contains(unsupported("llama", R"("partial_rotary_factor":0.5)"), "partial_rotary_factor"));
    CHECK(contains(unsupported("qwen2", R"("rope_parameters":{"full_attention":{"rope_type":"default"}})"),
                   "differ between layers"));
    CHECK(contains(unsupported("llama", R"("hidden_act":"mish")"), "hidden_act 'mish'; supported: silu"));
    CHECK(contains(unsupported("llama", R"("quantization_config":{"quant_method":"gptq"})"), "'gptq'"));
    CHECK(contains(unsupported("llama", R"("quantization_config":{})"), "quantised"));
    CHECK(contains(unsupported("gemma3_text", R"("final_logit_softcapping":30.0)"), "final_logit_softcapping"));
    CHECK(contains(unsupported("gemma3_text", R"("attn_logit_softcapping":50.0)"), "attn_logit_softcapping"));
    CHECK(contains(unsupported("gemma3_text", R"("use_bidirectional_attention":true)"), "use_bidirectional_attention"));
    CHECK(contains(unsupported("gpt2", R"("scale_attn_by_inverse_layer_idx":true)"), "scale_attn_by_inverse_layer_idx"));
    CHECK(contains(unsupported("gpt2", R"("add_cross_attention":true)"), "add_cross_attention"));
    CHECK(contains(unsupported("opt", R"("layer_norm_elementwise_affine":false)"), "layer_norm_elementwise_affine"));
    CHECK(contains(unsupported("opt", R"("_remove_final_layer_norm":true)"), "_remove_final_layer_norm"));
    CHECK(contains(unsupported("qwen3", R"("num_hidden_layers":1,"layer_types":["chunked_attention"])"), "'chunked_attention'"));
}

TEST_CASE("config.json: numbers that are none, or cannot be") {
    const auto wrong = [](std::string_view members) { return refused("llama", members); };
    CHECK(
        contains(wrong(R"("num_hidden_layers":"2")"), "field 'num_hidden_layers' must be a whole number, 0 or more, found '2'"));
    CHECK(contains(wrong(R"("num_hidden_layers":-2)"), "found -2"));
    CHECK(contains(wrong(R"("num_hidden_layers":2.5)"), "found 2.5"));
    CHECK(contains(wrong(R"("num_hidden_layers":null)"), "found null"));
    CHECK(contains(wrong(R"("num_hidden_layers":[2])"), "found array"));
    CHECK(contains(wrong(R"("num_hidden_layers":0)"), "the number of layers must be 1 to"));
    CHECK(contains(wrong(R"("num_hidden_layers":1000000)"), "at most 10000"));
    CHECK(contains(wrong(R"("num_hidden_layers":18446744073709551615)"), "at most 2147483648 is allowed"));
    CHECK(contains(wrong(R"("num_hidden_layers":18446744073709551616)"), "must be a whole number"));
    CHECK(contains(wrong(R"("hidden_size":0)"), "must be 1 to"));
    CHECK(contains(wrong(R"("hidden_size":2147483648,"head_dim":64)"), "must be 1 to"));
    CHECK(contains(wrong(R"("hidden_size":4097)"), "not a multiple of the 32 attention heads"));
    CHECK(contains(wrong(R"("num_attention_heads":0)"), "num_attention_heads is 0"));
    CHECK(contains(wrong(R"("num_key_value_heads":0)"), "key/value heads must be 1 to"));
    CHECK(contains(wrong(R"("num_key_value_heads":5)"), "must be a multiple of the key/value heads"));
    CHECK(contains(wrong(R"("head_dim":0)"), "the head dimension must be 1 to"));
    CHECK(contains(wrong(R"("head_dim":2147483648)"), "heads of width 2147483648"));
    CHECK(contains(wrong(R"("head_dim":7)"), "must be even"));
    CHECK(contains(wrong(R"("rms_norm_eps":"1e-6")"), "must be a number"));
    CHECK(contains(wrong(R"("rms_norm_eps":-1)"), "epsilon"));
    CHECK(contains(wrong(R"("rms_norm_eps":1e300)"), "in the range of a float"));
    CHECK(contains(wrong(R"("rope_theta":0)"), "rotary base must be positive"));
    CHECK(contains(wrong(R"("rope_theta":-1)"), "rotary base must be positive"));
    CHECK(contains(wrong(R"("rope_theta":"x")"), "must be a number"));
    CHECK(contains(wrong(R"("hidden_act":3)"), "must be a string"));
    CHECK(contains(wrong(R"("tie_word_embeddings":1)"), "must be true or false"));
    CHECK(contains(wrong(R"("rope_scaling":3)"), "must be an object"));
    CHECK(contains(wrong(R"("rope_scaling":{"type":"linear"})"), "needs factor"));
    CHECK(contains(wrong(R"("rope_scaling":{"type":"linear","factor":0})"), "scaling factor must be positive"));
    CHECK(contains(wrong(R"("rope_scaling":{"type":3})"), "must be a string"));
    CHECK(contains(wrong(R"("rope_scaling":{"rope_type":"llama3","factor":8})"), "needs low_freq_factor"));
    CHECK(contains(wrong(R"("rope_scaling":{"rope_type":"llama3","factor":-8,"low_freq_factor":1,"high_freq_factor":4})"),
                   "frequency factors must be positive"));
    CHECK(contains(refused("phi3", R"("rope_scaling":{"type":"longrope","short_factor":[1]})"), "short_factor and long_factor"));
    CHECK(contains(refused("phi3", R"("rope_scaling":{"type":"longrope","short_factor":[1],"long_factor":[1]})"),
                   "must be half the rotary dimension"));
    CHECK(contains(refused("phi3", R"("rope_scaling":{"type":"longrope","short_factor":["x"],"long_factor":[1]})"),
                   "must be a number"));
    CHECK(contains(refused("phi3", R"("original_max_position_embeddings":0,"rope_scaling":{"type":"su"})"), "is 0"));
    CHECK(contains(refused("phi3", R"("partial_rotary_factor":1.5)"), "must lie in [0, 1]"));
    CHECK(contains(refused("gpt_neox", R"("rotary_pct":-0.5)"), "must lie in [0, 1]"));
    CHECK(contains(refused("mistral", R"("sliding_window":0)"), "sliding_window is 0"));
    CHECK(contains(refused("gemma3_text", R"("sliding_window":null)"), "need a sliding_window"));
    CHECK(contains(refused("gemma3_text", R"("sliding_window_pattern":0)"), "sliding_window_pattern is 0"));
    CHECK(contains(refused("gemma3_text", R"("query_pre_attn_scalar":0)"), "attention scale must be positive"));
    CHECK(contains(refused("gemma3_text", R"("query_pre_attn_scalar":-1)"), "must be a whole number"));
    CHECK(contains(refused("gemma3_text", R"("layer_types":["full_attention"])"), "layer_types has 1 entries for 26 layers"));
    CHECK(contains(refused("gemma3_text", R"("layer_types":[3])"), "must be a string"));
    CHECK(contains(refused("gemma3", ""), "text_config is missing"));
    CHECK(contains(refused("gemma3", R"("text_config":[])"), "must be an object"));
    CHECK(contains(refused("opt", R"("word_embed_proj_dim":0)"), "word_embed_proj_dim is 0"));
    CHECK(contains(refused("gpt2", R"("n_inner":-1)"), "n_inner"));
    CHECK(contains(refused("gpt2", R"("n_head":7)"), "not a multiple of the 7 attention heads"));
}

TEST_CASE("config.json: text that is no configuration") {
    for (const std::string_view text :
         {"", "[]", "null", "3", "{", R"({"model_type":3})", R"({"model_type":"llama"}})",
          R"({"model_type":"llama","model_type":"opt"})", "\xEF\xBB\xBF{}", "{\"model_type\":\"\xFF\"}"}) {
        CAPTURE(text);
        error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(parse(text)); });
    }
    const std::string deep = of_type("llama", "\"x\":" + std::string(1000, '[') + std::string(1000, ']'));
    CHECK(contains(error_of(ErrorCode::CorruptFile, [&] { static_cast<void>(parse(deep)); }), "nested deeper"));
}

}  // namespace test_hf_config
