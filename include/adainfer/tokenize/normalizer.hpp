#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "adainfer/tokenize/charsmap.hpp"
#include "adainfer/tokenize/encode_options.hpp"
#include "adainfer/tokenize/nfc.hpp"
#include "adainfer/tokenize/utf8.hpp"
#include "adainfer/tokenize/vocabulary.hpp"

namespace adainfer::inline v0 {

namespace detail::tokenizing {

/// What happens to text before an engine sees it.
class Normalizer {
  public:
    /// Throws Error(CorruptFile) as Charsmap does.
    explicit Normalizer(const TokenizerData& data)
        : charsmap_(data.model == "gpt2" ? std::string() : data.charsmap),
          nfc_(data.nfc),
          remove_extra_whitespace_(data.model != "gpt2" && data.remove_extra_whitespace) {}

    /// The normalised text: `text` itself where nothing had to change, else what is left in `scratch`.
    [[nodiscard]] std::string_view apply(std::string_view text, InvalidUtf8 invalid, std::string& scratch) const {
        const char* const end = text.data() + text.size();
        if (invalid == InvalidUtf8::Replace && utf8::find_invalid(text.data(), end) != end) {
            text = scratch = utf8::repair(text);
        }
        if (nfc_ && nfc::normalised_prefix(text).size() != text.size()) text = scratch = nfc::normalise(text);
        if (!charsmap_.empty()) {
            std::string mapped;
            charsmap_.apply(text, mapped);
            text = scratch = std::move(mapped);
        }
        if (remove_extra_whitespace_) text = scratch = single_spaced(text);
        return text;
    }

  private:
    /// Without the spaces at both ends, and with one for each run of them between. A U+2581 in the text is none yet.
    [[nodiscard]] static std::string single_spaced(std::string_view text) {
        std::string out;
        bool space = false;
        for (const char c : text) {
            if (c == ' ') {
                space = true;
                continue;
            }
            if (space && !out.empty()) out.push_back(' ');
            space = false;
            out.push_back(c);
        }
        return out;
    }

    Charsmap charsmap_;
    bool nfc_, remove_extra_whitespace_;
};

}  // namespace detail::tokenizing

}  // namespace adainfer::inline v0
