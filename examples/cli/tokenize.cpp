#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "adainfer/io/any_model.hpp"
#include "command.hpp"

namespace cli {

namespace {

struct TokenizeOptions {
    ModelOptions model;
    std::string text, file;
    bool plain = false, json = false;
};

void tokenize(const TokenizeOptions& options) {
    const adainfer::Tokenizer tokenizer =
        reading(options.model.path, [&] { return adainfer::load_any_tokenizer(options.model.path); });
    const std::string text = options.file.empty() ? options.text : read_text(options.file);
    const std::vector<adainfer::TokenId> ids =
        tokenizer.encode(text, {.parse_special = !options.plain, .add_bos = tokenizer.adds_bos()});
    if (options.json) {
        Json pieces = Json::array();
        for (const adainfer::TokenId id : ids) pieces.push_back(tokenizer.token_bytes(id));
        print({{"tokens", ids.size()}, {"ids", ids}, {"pieces", std::move(pieces)}});
        return;
    }
    for (const adainfer::TokenId id : ids) std::cout << id << '\t' << quote(tokenizer.token_bytes(id)) << '\n';
    std::cerr << ids.size() << " tokens\n";
}

}  // namespace

void add_tokenize(CLI::App& app, const Context&) {
    auto* command = app.add_subcommand("tokenize", "Print the tokens of a text, one a line: id and piece");
    auto options = std::make_shared<TokenizeOptions>();
    options->model.add_to(*command);
    auto* source = command->add_option_group("source");
    source->add_option("--text", options->text, "the text")->type_name("S");
    source->add_option("--file", options->file, "a file with the text; - for standard input")->type_name("F");
    source->require_option(1);
    command->add_flag("--plain", options->plain, "take special tokens that are written out, e.g. <|im_start|>, as plain text");
    command->add_flag("--json", options->json, "print JSON: tokens (how many), ids, pieces");
    command->callback([options] { tokenize(*options); });
}

}  // namespace cli
