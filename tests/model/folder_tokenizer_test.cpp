// tokenizer.json and the files beside it: the ids are those of the models' own tokenizers, and what is not understood
// is refused.
#include <algorithm>
#include <functional>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "folder_writer.hpp"
#include "golden_texts.hpp"
#include "model/gguf.hpp"
#include "model/hugging_face/merge_scores.hpp"
#include "model/hugging_face/text_steps.hpp"
#include "model/hugging_face/tokenizer.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"
#include "translated_tokenizer.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::FolderDraft;
using test::translate;
using test::Translated;
using text::TokenKind;
namespace json = base::json;

class GoldenFolder : public testing::TestWithParam<const char*> {};

TEST_P(GoldenFolder, EveryVectorComesOutExactly) {
  const auto path = test::data_root() / "tokenizers" / (std::string("ggml-vocab-") + GetParam() + ".gguf");
  TM_SKIP_WITHOUT(path);
  const GgufFile file = GgufFile::open(path).value();
  const text::Vocabulary source = read_vocabulary(file).value();
  const test::TemporaryFolder folder;
  FolderDraft draft;
  draft.tokenizer = test::tokenizer_json(source);
  if (source.unknown) draft.tokenizer_config["unk_token"] = source.pieces[static_cast<size_t>(*source.unknown)];
  draft.write(folder.path());

  auto translated = translate(folder.path(), source.size());
  ASSERT_TRUE(translated) << translated.error().to_string();
  EXPECT_EQ(translated->vocabulary.add_space_prefix, source.add_space_prefix);
  const auto tokenizer = text::Tokenizer::create(std::move(translated->vocabulary));
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();

  const auto [texts, expected] = test::golden_texts_of(path);
  ASSERT_GT(texts.size(), 40U);
  ASSERT_EQ(texts.size(), expected.size());
  for (size_t i = 0; i < texts.size(); ++i)
    EXPECT_EQ((*tokenizer)->encode(texts[i], {.add_special = false}).value(), expected[i]) << "'" << texts[i] << "'";
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, GoldenFolder,
                         testing::Values("llama-spm", "phi-3", "gpt-2", "qwen2", "starcoder", "falcon",
                                         "deepseek-coder", "bert-bge"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class FolderTokenizer : public testing::Test {
 protected:
  // Six tokens: a, b, ab, a hole, and two special ones that no family of models has.
  FolderTokenizer() {
    json::object vocabulary = {{"a", 0}, {"b", 1}, {"ab", 2}};
    byte_level_ = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
    draft_.tokenizer = json::object{
        {"added_tokens", json::array{special(4, "<begin>"), special(5, "<finish>")}},
        {"normalizer", nullptr},
        {"pre_tokenizer", byte_level_},
        {"model", {{"type", "BPE"}, {"vocab", std::move(vocabulary)}, {"merges", json::array{json::string("a b")}}}}};
  }

  static json::object special(int id, std::string_view content) {
    return {{"id", id}, {"content", content}, {"special", true}};
  }
  static json::object& part(FolderDraft& draft, std::string_view key) {
    return draft.tokenizer->as_object()[key].as_object();
  }

  base::Result<Translated> read(const std::function<void(FolderDraft&)>& change) {
    FolderDraft draft = draft_;
    change(draft);
    std::filesystem::remove_all(folder_.path() / "model");
    draft.write(folder_.path() / "model");
    return translate(folder_.path() / "model", 6);
  }

  text::Vocabulary vocabulary(const std::function<void(FolderDraft&)>& change) {
    auto read_now = read(change);
    EXPECT_TRUE(read_now) << read_now.error().to_string();
    return read_now ? std::move(read_now->vocabulary) : text::Vocabulary();
  }

  std::string refusal(const std::function<void(FolderDraft&)>& change, ErrorCode code) {
    const auto read_now = read(change);
    if (read_now) return "(accepted)";
    EXPECT_EQ(read_now.error().code(), code) << read_now.error().to_string();
    return read_now.error().to_string();
  }

  // The draft as a SentencePiece vocabulary, of which "ab" is put together in its only way.
  static void make_spm(FolderDraft& draft) {
    draft.tokenizer->as_object()["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "never"}, {"split", false}};
    part(draft, "model")["byte_fallback"] = true;
  }

  test::TemporaryFolder folder_;
  json::object byte_level_;
  FolderDraft draft_;
};

TEST_F(FolderTokenizer, PiecesHaveTheirKinds) {
  const text::Vocabulary read_now = vocabulary([](FolderDraft& d) {
    d.tokenizer->as_object()["added_tokens"].as_array().push_back(
        {{"id", 3}, {"content", "<mark>"}, {"special", false}});
  });
  EXPECT_EQ(read_now.pieces, (std::vector<std::string>{"a", "b", "ab", "<mark>", "<begin>", "<finish>"}));
  EXPECT_EQ(read_now.kinds, (std::vector<TokenKind>{TokenKind::normal, TokenKind::normal, TokenKind::normal,
                                                    TokenKind::user_defined, TokenKind::control, TokenKind::control}));
  EXPECT_EQ(read_now.pre, "gpt-2");
  EXPECT_FALSE(read_now.bos);
  EXPECT_FALSE(read_now.add_bos);
  const text::Vocabulary with_hole = vocabulary([](FolderDraft&) {});
  EXPECT_EQ(with_hole.pieces[3], "[PAD3]");
  EXPECT_EQ(with_hole.kinds[3], TokenKind::unused);
}

TEST_F(FolderTokenizer, MergesAreTextsOrPairs) {
  const text::Vocabulary texts = vocabulary([](FolderDraft&) {});
  const text::Vocabulary pairs = vocabulary([](FolderDraft& d) {
    json::array list;
    list.push_back(json::array{json::string("a"), json::string("b")});
    part(d, "model")["merges"] = std::move(list);
  });
  EXPECT_EQ(texts.merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(pairs.merges, texts.merges);
  for (const json::value& merge : {json::value("ab"), json::value("a "), json::value(" b"), json::value("a b c"),
                                   json::value(7), json::value(nullptr)}) {
    EXPECT_SAYS(refusal(
                    [&](FolderDraft& d) {
                      part(d, "model")["merges"] = json::value(json::array({merge, merge}));
                    },
                    ErrorCode::corrupt),
                "merge 0 is");
  }
  EXPECT_SAYS(refusal([](FolderDraft& d) { part(d, "model").erase("merges"); }, ErrorCode::corrupt), "'model.merges'");
}

TEST_F(FolderTokenizer, SpecialTokensGoByNameOrNumber) {
  const text::Vocabulary named = vocabulary([](FolderDraft& d) {
    d.tokenizer_config["bos_token"] = {{"__type", "AddedToken"}, {"content", "<begin>"}};
    d.tokenizer_config["eos_token"] = "<finish>";
    d.tokenizer_config["pad_token"] = nullptr;
    d.config["bos_token_id"] = 0;
    d.config["pad_token_id"] = 1;
  });
  EXPECT_EQ(named.bos, 4);
  EXPECT_EQ(named.eos, 5);
  EXPECT_EQ(named.padding, 1);
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.tokenizer_config["eos_token"] = "<stop>"; }, ErrorCode::corrupt),
              "tokenizer_config.json: 'eos_token' is '<stop>', which is no token");
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.config["eos_token_id"] = json::array{5, 6};
                  },
                  ErrorCode::corrupt),
              "config.json: 'eos_token_id' is [5,6]; expected ids below 6");
  EXPECT_FALSE(vocabulary([](FolderDraft& d) { d.config["eos_token_id"] = -1; }).eos);
}

// Released files name padding that was never added to the vocabulary, and numbers just behind it.
TEST_F(FolderTokenizer, SpecialTokensThatNothingUsesMayBeMissing) {
  const text::Vocabulary named = vocabulary([](FolderDraft& d) {
    d.tokenizer_config["bos_token"] = "<s>";
    d.tokenizer_config["pad_token"] = "[PAD]";
    d.tokenizer_config["unk_token"] = {{"content", "<unk>"}};
    d.config["bos_token_id"] = 1;  // of another vocabulary
  });
  EXPECT_FALSE(named.bos);
  EXPECT_FALSE(named.padding);
  EXPECT_FALSE(named.unknown);
  const text::Vocabulary numbered = vocabulary([](FolderDraft& d) {
    d.config["bos_token_id"] = 6;
    d.config["pad_token_id"] = 6;
  });
  EXPECT_FALSE(numbered.bos);
  EXPECT_FALSE(numbered.padding);
  // One that would be put before texts is asked for.
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.tokenizer_config["bos_token"] = "<s>";
                    d.tokenizer_config["add_bos_token"] = true;
                  },
                  ErrorCode::corrupt),
              "tokenizer_config.json: 'bos_token' is '<s>', which is no token of tokenizer.json");
}

// GGUF gives a SentencePiece vocabulary that says nothing the tokens 1, 2 and 0.
TEST_F(FolderTokenizer, SentencePieceHasNoSpecialTokensThatNoFileNames) {
  const text::Vocabulary none = vocabulary(make_spm);
  EXPECT_FALSE(none.bos);
  EXPECT_FALSE(none.eos);
  EXPECT_FALSE(none.unknown);
  EXPECT_FALSE(none.padding);
  EXPECT_FALSE(none.add_bos);
  const text::Vocabulary known = vocabulary([](FolderDraft& d) {
    make_spm(d);
    part(d, "model")["unk_token"] = "<begin>";
    d.config["eos_token_id"] = 5;
  });
  EXPECT_EQ(known.unknown, 4);
  EXPECT_EQ(known.kinds[4], TokenKind::unknown);
  EXPECT_EQ(known.eos, 5);
}

TEST_F(FolderTokenizer, SentencePiecesSpacesAreKnown) {
  const auto prefixed = [&](const json::object& normalizer, const json::object& pre_tokenizer) {
    return vocabulary([&](FolderDraft& d) {
             make_spm(d);
             json::object& root = d.tokenizer->as_object();
             root["normalizer"] = normalizer.empty() ? json::value(nullptr) : json::value(normalizer);
             root["pre_tokenizer"] = pre_tokenizer.empty() ? json::value(nullptr) : json::value(pre_tokenizer);
           })
        .add_space_prefix;
  };
  const auto metaspace = [](std::string_view scheme) {
    return json::object{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", false}};
  };
  EXPECT_TRUE(prefixed({}, metaspace("always")));
  EXPECT_TRUE(prefixed({}, metaspace("first")));
  EXPECT_FALSE(prefixed({}, metaspace("never")));
  EXPECT_TRUE(
      prefixed({}, {{"type", "Metaspace"}, {"replacement", "▁"}, {"add_prefix_space", true}, {"split", false}}));
  const json::object replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  const json::object split = {
      {"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}, {"invert", false}};
  EXPECT_FALSE(prefixed(replace, {}));
  EXPECT_FALSE(prefixed(replace, split));
}

// The white space after special tokens: as the added tokens have it, and never as the folder happens to be called.
TEST_F(FolderTokenizer, SpecialTokensStripAsTheyAreAdded) {
  const auto strips = [&](const std::vector<bool>& tokens, const char* eos) {
    return vocabulary([&](FolderDraft& d) {
             json::array& added = d.tokenizer->as_object()["added_tokens"].as_array();
             for (size_t i = 0; i < added.size(); ++i)
               added[i].as_object()["rstrip"] = tokens[i];
             if (eos != nullptr) d.tokenizer_config["eos_token"] = eos;
           })
        .strip_after_special;
  };
  EXPECT_TRUE(strips({true, true}, nullptr));
  EXPECT_FALSE(strips({false, false}, nullptr));
  EXPECT_FALSE(strips({true, false}, nullptr));
  EXPECT_TRUE(strips({true, false}, "<finish>"));  // the end of a text never does
}

TEST_F(FolderTokenizer, BosGoesBeforeTextsWhereTheFilesSaySo) {
  const auto with_template = [](FolderDraft& d) {
    d.tokenizer_config["bos_token"] = "<begin>";
    const json::object bos = {{"SpecialToken", {{"id", "<begin>"}, {"type_id", 0}}}};
    const json::object rest = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    json::object processor;
    processor["type"] = "TemplateProcessing";
    processor["single"] = json::value(json::array({bos, rest}));
    json::object both;
    both["type"] = "Sequence";
    both["processors"] = json::value(json::array({json::object{{"type", "ByteLevel"}}, processor}));
    d.tokenizer->as_object()["post_processor"] = both;
  };
  EXPECT_TRUE(vocabulary(with_template).add_bos);
  EXPECT_FALSE(vocabulary(with_template).add_eos);
  EXPECT_FALSE(vocabulary([&](FolderDraft& d) {
                 with_template(d);
                 d.tokenizer_config["add_bos_token"] = false;
               }).add_bos);
  // The same behind a text.
  const text::Vocabulary behind = vocabulary([](FolderDraft& d) {
    const json::object rest = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const json::object eos = {{"SpecialToken", {{"id", "<finish>"}, {"type_id", 0}}}};
    d.config["eos_token_id"] = 5;
    d.tokenizer->as_object()["post_processor"] = {{"type", "TemplateProcessing"},
                                                  {"single", json::value(json::array({rest, eos}))}};
  });
  EXPECT_FALSE(behind.add_bos);
  EXPECT_TRUE(behind.add_eos);
  // Classes that put no token there have the member as well.
  EXPECT_FALSE(vocabulary([](FolderDraft& d) {
                 d.tokenizer_config["bos_token"] = nullptr;
                 d.tokenizer_config["add_bos_token"] = true;
               }).add_bos);
  EXPECT_TRUE(vocabulary([](FolderDraft& d) {
                d.tokenizer_config["bos_token"] = "<begin>";
                d.tokenizer_config["add_bos_token"] = true;
              }).add_bos);
}

TEST_F(FolderTokenizer, EveryTokenThatEndsAGenerationIsKept) {
  const auto ends = [&](const std::function<void(FolderDraft&)>& change) {
    auto tokenizer = text::Tokenizer::create(vocabulary(change));
    EXPECT_TRUE(tokenizer) << tokenizer.error().to_string();
    return tokenizer ? (*tokenizer)->vocabulary().end_of_generation : std::vector<text::Token>();
  };
  const std::vector<text::Token> both = {4, 5};
  EXPECT_EQ(ends([](FolderDraft& d) { d.config["eos_token_id"] = json::array{4, 5}; }), both);
  EXPECT_EQ(ends([](FolderDraft& d) {
              d.generation_config = json::object{{"eos_token_id", json::array{4, 5}}};
              d.tokenizer_config["eos_token"] = "<finish>";
            }),
            both);
  // config.json's numbers are often defaults: 2 is an ordinary piece here.
  EXPECT_EQ(ends([](FolderDraft& d) {
              d.generation_config = json::object{{"eos_token_id", 4}};
              d.config["eos_token_id"] = 2;
            }),
            std::vector<text::Token>{4});
  EXPECT_EQ(ends([](FolderDraft& d) {
              d.generation_config = json::object{{"eos_token_id", json::array{4, -1}}};
              d.tokenizer_config["eos_token"] = "<finish>";
              d.config["eos_token_id"] = 2;
            }),
            both);
  EXPECT_EQ(ends([](FolderDraft& d) {
              d.generation_config = json::object{{"bos_token_id", 4}};
              d.config["eos_token_id"] = 5;
            }),
            std::vector<text::Token>{5});
  // GGUF has room for three.
  EXPECT_EQ(ends([](FolderDraft& d) {
              d.tokenizer->as_object()["added_tokens"].as_array().push_back(special(3, "<other>"));
              d.config["eos_token_id"] = json::array{5, 3, 4, 2};
            }),
            (std::vector<text::Token>{3, 4, 5}));
  const text::Vocabulary read_now = vocabulary([](FolderDraft& d) {
    d.tokenizer->as_object()["added_tokens"].as_array().push_back(special(3, "<|im_end|>"));
    d.config["eos_token_id"] = json::array{5, 3, 4};
  });
  EXPECT_EQ(read_now.eos, 5);
  EXPECT_EQ(read_now.eot, 4);  // <|im_end|> is known by its name
  EXPECT_FALSE(read_now.eom);
}

TEST_F(FolderTokenizer, TheChatTemplateHasTwoPlaces) {
  const auto chat_template = [&](const std::function<void(FolderDraft&)>& change) {
    const auto read_now = read(change);
    EXPECT_TRUE(read_now) << read_now.error().to_string();
    return read_now ? read_now->chat_template : "";
  };
  EXPECT_EQ(chat_template([](FolderDraft&) {}), "");
  const auto in_config = [](FolderDraft& d) { d.tokenizer_config["chat_template"] = "{{ one }}"; };
  EXPECT_EQ(chat_template(in_config), "{{ one }}");
  EXPECT_EQ(chat_template([&](FolderDraft& d) {
              in_config(d);
              d.chat_template = "{{ two }}";
            }),
            "{{ two }}");
  const json::object tools = {{"name", "tool_use"}, {"template", "{{ three }}"}};
  const json::object usual = {{"name", "default"}, {"template", "{{ four }}"}};
  EXPECT_EQ(chat_template([&](FolderDraft& d) {
              d.tokenizer_config["chat_template"] = json::value(json::array({tools, usual}));
            }),
            "{{ four }}");
  EXPECT_EQ(chat_template([&](FolderDraft& d) {
              d.tokenizer_config["chat_template"] = json::value(json::array({tools, tools}));
            }),
            "");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.tokenizer_config["chat_template"] = 7; }, ErrorCode::corrupt),
              "'chat_template' is 7; expected a text");
}

TEST_F(FolderTokenizer, NamesWhatItDoesNotKnow) {
  const auto unsupported = [&](const std::function<void(FolderDraft&)>& change) {
    return refusal(change, ErrorCode::unsupported);
  };
  EXPECT_SAYS(unsupported([](FolderDraft& d) { part(d, "model")["type"] = "WordLevel"; }),
              "'model.type' is 'WordLevel'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { part(d, "model")["end_of_word_suffix"] = "</w>"; }), "'</w>'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { part(d, "pre_tokenizer")["add_prefix_space"] = true; }),
              "'pre_tokenizer' is 'ByteLevel words behind a space'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.tokenizer->as_object()["pre_tokenizer"] = {{"type", "Bert"}};
              }),
              "'pre_tokenizer' is 'Bert'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.tokenizer->as_object()["pre_tokenizer"] = nullptr; }),
              "'pre_tokenizer' is ''");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.tokenizer->as_object()["normalizer"] = {{"type", "Lowercase"}};
              }),
              "'normalizer' is 'Lowercase'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { part(d, "model")["ignore_merges"] = true; }), "'ignore_merges' true");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                make_spm(d);
                part(d, "model")["byte_fallback"] = false;
              }),
              "'pre_tokenizer' is 'Metaspace(▁, never)'");
}

TEST_F(FolderTokenizer, NamesWhatContradictsItself) {
  const auto corrupt = [&](const std::function<void(FolderDraft&)>& change) {
    return refusal(change, ErrorCode::corrupt);
  };
  EXPECT_SAYS(corrupt([](FolderDraft& d) { part(d, "model")["vocab"].as_object()["c"] = 6; }),
              "token 'c' of 'model.vocab' has the id 6, but the model has 6 tokens");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { part(d, "model")["vocab"].as_object()["c"] = -1; }), "has the id -1");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { part(d, "model")["vocab"].as_object()["c"] = 1; }),
              "tokens 'b' and 'c' have the same id, 1");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { part(d, "model")["vocab"].as_object()["c"] = "x"; }), "expected an integer");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { part(d, "model").erase("vocab"); }), "'model.vocab' is missing");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.tokenizer->as_object().erase("model"); }), "'model' is missing");
  // A vocabulary that lost its tokens, or some of them.
  const auto without = [](const std::vector<std::string>& gone, bool with_merges) {
    return [gone, with_merges](FolderDraft& d) {
      for (const std::string& piece : gone)
        part(d, "model")["vocab"].as_object().erase(piece);
      if (!with_merges) part(d, "model")["merges"] = json::array();
    };
  };
  EXPECT_SAYS(corrupt(without({"ab"}, true)), "merge 0 is of 'a' and 'b', but 'ab' is no token of 'model.vocab'");
  EXPECT_SAYS(corrupt(without({"b"}, true)), "but 'b' is no token");
  EXPECT_SAYS(corrupt(without({"a", "b", "ab"}, false)),
              "4 of the model's 6 ids ('vocab_size' of config.json) have no token");
  EXPECT_TRUE(read(without({"b", "ab"}, false)));
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.tokenizer->as_object()["added_tokens"] = json::array{7}; }),
              "expected an object with 'id' and 'content'");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.tokenizer.reset(); }, ErrorCode::not_found),
              "'tokenizer.json' is missing");
}

// Scores can say the order of pieces, and that every way to put one together is listed.
TEST_F(FolderTokenizer, MergesBecomeScoresWhereScoresCanSayThem) {
  const text::Vocabulary read_now = vocabulary(make_spm);
  EXPECT_EQ(read_now.model, text::Vocabulary::Model::spm);
  EXPECT_FALSE(read_now.add_space_prefix);
  EXPECT_EQ(read_now.scores[2], -1);
  EXPECT_LT(read_now.scores[0], -1);
  EXPECT_EQ(read_now.scores[4], 0);
  const auto with_merges = [&](json::object pieces, const std::vector<std::string>& merges) {
    return [pieces = std::move(pieces), merges](FolderDraft& d) {
      make_spm(d);
      d.tokenizer->as_object()["added_tokens"] = json::array();
      part(d, "model")["vocab"] = pieces;
      json::array list;
      for (const std::string& merge : merges)
        list.push_back(json::string(merge));
      part(d, "model")["merges"] = std::move(list);
    };
  };
  const json::object pieces = {{"a", 0}, {"b", 1}, {"ab", 2}, {"ba", 3}, {"aba", 4}};
  const text::Vocabulary ranked = vocabulary(with_merges(pieces, {"b a", "a ba", "ab a", "a b"}));
  EXPECT_EQ(ranked.scores[3], -1);
  EXPECT_EQ(ranked.scores[4], -2);
  EXPECT_EQ(ranked.scores[2], -3);
  EXPECT_SAYS(refusal(with_merges(pieces, {"b a", "a ba", "a b"}), ErrorCode::unsupported),
              "'aba' can be put together in 2 ways, of which 1 are listed");
  EXPECT_SAYS(refusal(with_merges(pieces, {"a ba", "b a", "ab a", "a b"}), ErrorCode::unsupported),
              "the merges that make 'aba' do not follow each other");
  json::object with_long = pieces;
  with_long[std::string(513, 'a')] = 5;
  EXPECT_SAYS(refusal(with_merges(with_long, {"b a", "a ba", "ab a", "a b"}), ErrorCode::unsupported),
              "has 513 bytes; pieces have at most 512");
}

// Every way to cut each piece in two is looked at, which takes time that grows with the square of its length.
TEST(MergeScores, BoundWhatIsLookedAt) {
  std::vector<std::string> pieces;
  for (int i = 0; i < 2100; ++i)
    pieces.push_back(std::string(508, 'a') + fmt::format("{:04}", i));
  const std::vector<bool> text(pieces.size(), true);
  std::string fault;
  EXPECT_FALSE(merge_scores(pieces, text, {}, fault));
  EXPECT_SAYS(fault, "the squares of its pieces' lengths add up to");
  pieces.resize(100);
  EXPECT_TRUE(merge_scores(pieces, std::vector<bool>(100, true), {}, fault));
}

// Whatever the name of their pre-tokenizer stands for.
TEST_F(FolderTokenizer, MergesAreIgnoredWhereTheFileSaysSo) {
  for (const char* pre : {"gpt-4o", "tekken"}) {
    for (const bool ignored : {false, true}) {
      const text::Vocabulary read_now = vocabulary([&](FolderDraft& d) {
        const text::Vocabulary named = text::Vocabulary::with_defaults("gpt2", pre).value();
        d.tokenizer->as_object()["pre_tokenizer"] = test::tokenizer_json(named).as_object()["pre_tokenizer"];
        part(d, "model")["ignore_merges"] = ignored;
      });
      EXPECT_EQ(read_now.pre, pre);
      EXPECT_EQ(read_now.ignore_merges, ignored) << pre;
    }
  }
}

// As tokenizer.json of Meta-Llama-3-8B and of Qwen3 have it, of gpt-oss-20b and Mistral-Nemo; and as some write the
// same.
TEST(KnownPreTokenizers, AreThoseOfPublishedFiles) {
  const auto steps = [](std::string_view text) {
    const json::value parsed = base::parse_json(text).value();
    return describe_steps(&parsed);
  };
  const std::string llama3 = steps(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split",
       "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
       "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})");
  EXPECT_EQ(known_pre_tokenizer(llama3, true), "llama-bpe");
  EXPECT_EQ(known_pre_tokenizer(llama3, false), "smaug-bpe");
  const std::string qwen3 = steps(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split",
       "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
       "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]})");
  EXPECT_EQ(known_pre_tokenizer(qwen3, false), "qwen2");
  const auto split = [&](std::string_view regex, std::string_view how) {
    return steps(fmt::format(R"({{"type": "Sequence", "pretokenizers": [
      {{"type": "Split", "pattern": {{"Regex": "{}"}}, {}}},
      {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}}]}})",
                             regex, how));
  };
  constexpr std::string_view isolated = R"("behavior": "Isolated", "invert": false)";
  constexpr std::string_view removed = R"("behavior": "Removed", "invert": true)";
  constexpr std::string_view o200k =
      R"([^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
  constexpr std::string_view nemo =
      R"([^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";
  for (const bool ignore_merges : {false, true}) {
    EXPECT_EQ(known_pre_tokenizer(split(o200k, isolated), ignore_merges), "gpt-4o");
    EXPECT_EQ(known_pre_tokenizer(split(o200k, removed), ignore_merges), "gpt-4o");
    EXPECT_EQ(known_pre_tokenizer(split(nemo, isolated), ignore_merges), "tekken");
  }
  EXPECT_EQ(known_pre_tokenizer(split(R"(\\p{N})", removed), false), "");
  EXPECT_EQ(steps(R"({"type": "NFC"})"), "NFC");
}

}  // namespace
}  // namespace tidemill::model
