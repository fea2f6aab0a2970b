#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adainfer/adainfer.hpp"

// What the benchmarks of whole models have in common.

namespace adainfer_benchmarks {

using DenseModel = adainfer::Model<adainfer::EigenBackend>;

/// A model at work: its weights on a backend, and a session with room for what the benchmarks do.
struct Running {
    DenseModel model;
    adainfer::Session session;

    /// Leaves exactly `positions` positions in the session.
    void reach(std::size_t positions);
};

/// n tokens, spread over the vocabulary of any model of 25,000 tokens or more.
inline std::vector<adainfer::TokenId> prompt(std::size_t n) {
    std::vector<adainfer::TokenId> tokens;
    for (std::size_t i = 0; i < n; ++i) tokens.push_back(static_cast<adainfer::TokenId>(100 + 3701 * i % 20000));
    return tokens;
}

inline void Running::reach(std::size_t positions) {
    session.rewind((std::min)(positions, session.length()));
    if (session.length() < positions) model.prefill(session, prompt(positions - session.length()));
}

/// The model in memory. There is one at a time: asking for another one frees the one before.
class Stage {
  public:
    explicit Stage(std::size_t capacity) : capacity_(capacity) {}

    Running& get(const std::string& name, std::size_t threads, const std::function<adainfer::ModelWeights()>& make) {
        if (running_ && name == name_ && threads == threads_) return *running_;
        running_.reset();
        if (name != name_) {
            weights_.reset();
            weights_.emplace(make());
            name_ = name;
        }
        threads_ = threads;
        DenseModel model(*weights_, {}, adainfer::EigenBackend(threads));
        adainfer::Session session = model.new_session(capacity_);
        return running_.emplace(Running{std::move(model), std::move(session)});
    }

  private:
    std::size_t capacity_, threads_ = 0;
    std::string name_;
    std::optional<adainfer::ModelWeights> weights_;
    std::optional<Running> running_;
};

inline void count_tokens(benchmark::State& state, std::size_t tokens) {
    state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsIterationInvariantRate);
}

/// Bytes of weights that a decoded token reads: all layers and the head.
inline std::size_t bytes_a_token(const adainfer::ModelWeights& weights) {
    std::size_t bytes = weights.head.weight.bytes();
    for (std::size_t layer = 0; layer < weights.layers.size(); ++layer) bytes += weights.layer_bytes(layer);
    return bytes;
}

/// A prompt of `tokens` tokens into an empty session.
inline void prefill(benchmark::State& state, Running& running, std::size_t tokens) {
    const std::vector<adainfer::TokenId> ids = prompt(tokens);
    for (auto _ : state) {
        running.session.rewind(0);
        running.model.prefill(running.session, ids);
    }
    count_tokens(state, tokens);
}

/// `tokens` tokens one by one, each with its logits, after `after` positions.
inline void decode(benchmark::State& state, Running& running, std::size_t after, std::size_t tokens) {
    running.reach(after);
    const std::vector<adainfer::TokenId> ids = prompt(tokens);
    for (auto _ : state) {
        running.session.rewind(after);
        for (const adainfer::TokenId id : ids) benchmark::DoNotOptimize(running.model.decode(running.session, id).token);
    }
    count_tokens(state, tokens);
    state.SetBytesProcessed(static_cast<std::int64_t>(static_cast<std::size_t>(state.iterations()) * tokens *
                                                      bytes_a_token(running.model.decoder().weights())));
}

/// A choice between two labels after `tokens` new tokens behind a cached prefix, as classify() makes it.
inline void predict(benchmark::State& state, Running& running, std::size_t prefix, std::size_t tokens) {
    running.reach(prefix);
    const std::vector<adainfer::TokenId> ids = prompt(tokens), labels{100, 200};
    for (auto _ : state) benchmark::DoNotOptimize(running.model.predict(running.session, ids, labels).token);
    count_tokens(state, tokens);
}

/// Registers a benchmark by wall clock, because the backend's own threads do half of the work.
template <class Body>
void add(const std::string& name, std::size_t threads, Body body) {
    benchmark::RegisterBenchmark((name + "/threads:" + std::to_string(threads)).c_str(), std::move(body))
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
}

}  // namespace adainfer_benchmarks
