#pragma once

#include <functional>

#include "adainfer/backend/any_backend.hpp"
#include "adainfer/model/model.hpp"
#include "adainfer/tokenize/tokenizer.hpp"
#include "command.hpp"

namespace cli {

/// Every command compiles one model, whatever backend the user names.
using DenseModel = adainfer::Model<adainfer::AnyBackend>;

/// f(model, tokenizer) with the dense model on the backend that the user chose; model.with_policy(make_policy(...)) gives it
/// another policy.
void with_model(const ModelOptions& options, const Context& context,
                const std::function<void(const DenseModel& model, const adainfer::Tokenizer& tokenizer)>& f);

}  // namespace cli
