// What SentencePiece itself (0.1.97, spm_train and spm_encode) makes of difficult texts with three unigram models that
// it trained on a few hundred words, in tests/text/unigram_golden.json: with bytes for what is no piece and a map of
// characters of its own, without either and with all white space kept, and with no space before a text.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/json.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::test {

struct UnigramGolden {
  std::string name;
  text::Vocabulary vocabulary;
  std::vector<std::pair<std::string, std::vector<text::Token>>> cases;
};

inline std::string bytes_of_base64(std::string_view text) {
  const std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (size_t at = 0; at < text.size(); at += 4) {
    uint32_t group = 0;
    for (size_t i = 0; i < 4; ++i) {
      const size_t digit = digits.find(text.at(at + i));
      group = (group << 6) | (digit == std::string_view::npos ? 0 : static_cast<uint32_t>(digit));
    }
    for (size_t i = 0; i < 3; ++i)
      if (text.at(at + i + 1) != '=') bytes += static_cast<char>((group >> (16 - 8 * i)) & 0xFF);
  }
  return bytes;
}

inline std::vector<UnigramGolden> read_unigram_golden() {
  const auto text = base::read_file("tests/text/unigram_golden.json");
  if (!text) throw std::runtime_error(text.error().to_string());
  const base::json::value parsed = base::parse_json(*text).value();
  std::vector<UnigramGolden> all;
  for (const base::json::value& model : parsed.as_array()) {
    UnigramGolden& golden = all.emplace_back();
    golden.name = std::string_view(model.at("name").as_string());
    text::Vocabulary& vocabulary = golden.vocabulary;
    vocabulary = text::Vocabulary::with_defaults("t5", "").value();
    for (const base::json::value& piece : model.at("pieces").as_array()) {
      vocabulary.pieces.emplace_back(std::string_view(piece.at(0).as_string()));
      vocabulary.scores.push_back(piece.at(1).to_number<float>());
      vocabulary.kinds.push_back(static_cast<text::TokenKind>(piece.at(2).as_int64()));
    }
    vocabulary.characters_map = bytes_of_base64(model.at("characters_map").as_string());
    vocabulary.add_space_prefix = model.at("space_prefix").as_bool();
    vocabulary.single_spaces = model.at("single_spaces").as_bool();
    vocabulary.unknown = 0;
    vocabulary.bos = 1;
    vocabulary.eos = 2;
    vocabulary.padding.reset();
    vocabulary.add_bos = true;
    for (const base::json::value& one : model.at("cases").as_array()) {
      auto& [words, tokens] = golden.cases.emplace_back();
      words = std::string_view(one.at(0).as_string());
      for (const base::json::value& token : one.at(1).as_array())
        tokens.push_back(static_cast<text::Token>(token.as_int64()));
    }
  }
  return all;
}

}  // namespace tidemill::test
