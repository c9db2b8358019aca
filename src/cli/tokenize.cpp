#include <cstdio>
#include <string>

#include <fmt/core.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/model_source.hpp"
#include "model/vocabulary.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::cli {

namespace {

struct TokenizeFlags {
  std::string model;
  std::string text;
  bool has_text = false;
  bool no_bos = false;
  bool special = false;
  bool decode = false;
  bool as_json = false;
};

base::Result<int> decode_tokens(const text::Tokenizer& tokenizer, const std::string& input,
                                const TokenizeFlags& flags) {
  auto value = base::parse_json(input);
  if (!value) {
    return base::Error(base::ErrorCode::invalid_argument, "--decode reads a JSON array of token ids")
        .caused_by(std::move(value).error());
  }
  std::vector<text::Token> tokens;
  const auto* array = value->if_array();
  if (array == nullptr) {
    return base::Error(base::ErrorCode::invalid_argument, "--decode reads a JSON array of token ids");
  }
  const auto size = static_cast<int64_t>(tokenizer.vocabulary().size());
  for (const auto& item : *array) {
    if (!item.is_int64() || item.get_int64() < 0 || item.get_int64() >= size) {
      return base::Error(
          base::ErrorCode::invalid_argument,
          fmt::format("{} is no token id: they are integers from 0 to {}", base::json::serialize(item), size - 1));
    }
    tokens.push_back(static_cast<text::Token>(item.get_int64()));
  }
  const std::string text = tokenizer.decode(tokens, flags.special);
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(base::json::object{{"text", base::utf8::sanitize(text)}}));
  } else {
    std::fwrite(text.data(), 1, text.size(), stdout);
  }
  return exit_success;
}

base::Result<int> tokenize(const TokenizeFlags& flags) {
  TM_TRY(const model::Checkpoint file, open_model(flags.model));
  TM_TRY(text::Vocabulary vocabulary, model::read_vocabulary(file));
  auto created = text::Tokenizer::create(std::move(vocabulary));
  if (!created) return std::move(created).error().wrap(file.path().string());
  const auto tokenizer = std::move(created).value();
  std::string input = flags.text;
  if (!flags.has_text) {
    TM_TRY(input, base::read_file("-"));
  }
  if (flags.decode) return decode_tokens(*tokenizer, input, flags);
  TM_TRY(const auto tokens, tokenizer->encode(input, {.add_special = !flags.no_bos, .parse_special = flags.special}));
  if (flags.as_json) {
    std::string out = "[";
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) out += ", ";
      fmt::format_to(std::back_inserter(out), "{}", tokens[i]);
    }
    fmt::print("{}]\n", out);
  } else {
    for (const text::Token token : tokens) {
      const base::json::string piece(base::utf8::sanitize(tokenizer->piece_bytes(token)));
      fmt::print("{:>8}  {}\n", token, base::json::serialize(piece));
    }
    fmt::print("{:>8}  tokens\n", tokens.size());
  }
  return exit_success;
}

}  // namespace

void add_tokenize(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("tokenize", "Turn text from standard input into tokens, or back");
  auto flags = std::make_shared<TokenizeFlags>();
  add_model_flag(*command, flags->model, false);
  auto* text = command->add_option("--text", flags->text, "The text, instead of standard input");
  command->add_flag("--no-bos", flags->no_bos, "Leave out the begin and end tokens that the vocabulary would add");
  command->add_flag("--special", flags->special, "Read special tokens that are written out in the text as tokens");
  command->add_flag("--decode", flags->decode, "Read a JSON array of token ids, write their text");
  command->add_flag("--json", flags->as_json, "Print a JSON array of ids; with --decode, an object with the text");
  command->callback([=, &chosen] {
    flags->has_text = text->count() > 0;
    chosen.body = [flags] { return tokenize(*flags); };
  });
}

}  // namespace tidemill::cli
