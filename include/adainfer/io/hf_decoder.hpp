#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adainfer/core/error.hpp"
#include "adainfer/core/types.hpp"
#include "adainfer/io/hf_component.hpp"
#include "adainfer/io/json_reader.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0::detail::hf {

/// Checks that the decoder undoes what normalizer and pre_tokenizer did, which `data` holds by now: that is what Tokenizer's
/// decode() does. Throws Error (CorruptFile) for fields that are missing or of a wrong type, and (Unsupported) where it does
/// something else.
inline void check_decoder(const json::Field& document, std::string_view file, bool byte_level, const TokenizerData& data) {
    const auto refuse = [file](const auto&... parts) { fail(ErrorCode::Unsupported, "'", file, "': decoder: ", parts...); };
    bool bytes = false, spaces = false, fallback = false, strip = false;
    for (const Component& c : components_of(document, "decoder", "decoders", file)) {
        if (c.type == "ByteLevel") {
            bytes = true;
        } else if (c.type == "Replace") {
            if (!c.replaces(space_mark, " ")) c.refuse(" replaces ", c.pattern(), "; supported: U+2581 by a space");
            spaces = true;
        } else if (c.type == "ByteFallback") {
            fallback = true;
        } else if (c.type == "Strip") {
            if (c.text("content") != " " || c.field.at("start").count(1) != 1 || c.field.at("stop").count(0) != 0)
                c.refuse(" strips something else than one space at the start");
            strip = true;
        } else if (c.type == "Metaspace") {
            const auto scheme = c.find("prepend_scheme");
            strip = scheme ? scheme->text() != "never" : c.flag("add_prefix_space", true);
            spaces = true;
        } else if (c.type != "Fuse") {
            c.refuse_type("ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence");
        }
    }
    if (byte_level) {
        if (!bytes || spaces || fallback || strip) refuse("a vocabulary that spells bytes needs ByteLevel and nothing else");
        return;
    }
    if (bytes || !spaces) refuse("a vocabulary that writes U+2581 for a space needs Replace or Metaspace to undo it");
    if (strip != data.add_space_prefix) {
        refuse(strip ? "it takes" : "it does not take", " a space away at the start, and the text ",
               data.add_space_prefix ? "gets" : "does not get", " one");
    }
    const auto model = document.at("model").find("byte_fallback");
    if (model && !model->is_null() && model->boolean() && !fallback)
        refuse("model.byte_fallback is set, and there is no ByteFallback to undo it");
}

/// Reads which tokens the post_processor puts around a text: bos and add_bos, eos and add_eos of `data`. False where it does not
/// say (no TemplateProcessing). Throws Error (CorruptFile) for fields that are missing or of a wrong type, and (Unsupported) for
/// more than one token at an end.
[[nodiscard]] inline bool read_post_processor(const json::Field& document, std::string_view file, TokenizerData& data) {
    bool says = false;
    for (const Component& c : components_of(document, "post_processor", "processors", file)) {
        if (c.type == "ByteLevel") continue;  // it moves offsets, not tokens
        if (c.type != "TemplateProcessing") c.refuse_type("ByteLevel, TemplateProcessing, Sequence");
        if (std::exchange(says, true)) c.refuse(" is the second TemplateProcessing");
        bool text_seen = false;
        for (const json::Field& item : c.field.at("single").elements()) {
            if (item.find("Sequence")) {
                if (std::exchange(text_seen, true)) c.refuse(".single has the text twice");
                continue;
            }
            const std::string& name = item.at("SpecialToken").at("id").text();
            const std::vector<json::Field> ids = c.field.at("special_tokens").at(name).at("ids").elements();
            if (ids.size() != 1) c.refuse(": ", detail::quoted(name), " stands for ", ids.size(), " tokens; supported: 1");
            if (std::exchange(text_seen ? data.add_eos : data.add_bos, true))
                c.refuse(".single puts more than one token ", text_seen ? "after" : "before", " a text");
            (text_seen ? data.eos : data.bos) = static_cast<TokenId>(ids[0].count(0x7FFFFFFF));
        }
        if (!text_seen) c.refuse(".single leaves the text out");
    }
    return says;
}

}  // namespace adainfer::inline v0::detail::hf
