// tokenizer.json of WordPiece and unigram models: the ids are those of BERT's and SentencePiece's own tokenizers, and
// what is not understood is refused. Byte-level and merging ones are in folder_tokenizer_test.cpp.
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "encoder_writer.hpp"
#include "expect_says.hpp"
#include "folder_writer.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"
#include "text/unigram_golden.hpp"
#include "translated_tokenizer.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::FolderDraft;
namespace json = base::json;

// A draft of a folder, of which tests change a part.
class FolderPieces : public testing::Test {
 protected:
  void use(const text::Vocabulary& vocabulary) {
    draft_ = FolderDraft();
    draft_.tokenizer = test::tokenizer_json(vocabulary);
    tokens_ = vocabulary.size();
  }

  base::Result<test::Translated> read(const std::function<void(json::object& tokenizer, FolderDraft&)>& change) {
    FolderDraft draft = draft_;
    change(draft.tokenizer->as_object(), draft);
    std::filesystem::remove_all(folder_.path() / "model");
    draft.write(folder_.path() / "model");
    return test::translate(folder_.path() / "model", tokens_);
  }

  text::Vocabulary vocabulary(const std::function<void(json::object&, FolderDraft&)>& change) {
    auto read_now = read(change);
    EXPECT_TRUE(read_now) << read_now.error().to_string();
    return read_now ? std::move(read_now->vocabulary) : text::Vocabulary();
  }

  std::string refusal(ErrorCode code, const std::function<void(json::object&, FolderDraft&)>& change) {
    const auto read_now = read(change);
    if (read_now) return "(accepted)";
    EXPECT_EQ(read_now.error().code(), code) << read_now.error().to_string();
    return read_now.error().to_string();
  }

  test::TemporaryFolder folder_;
  FolderDraft draft_;
  size_t tokens_ = 0;
};

class FolderWordPiece : public FolderPieces {
 protected:
  void SetUp() override {
    text::Vocabulary small = text::Vocabulary::with_defaults("bert", "").value();
    small.pieces = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁a", "b", "▁##", "▁#"};
    small.kinds.assign(4, text::TokenKind::control);
    small.kinds.resize(small.pieces.size(), text::TokenKind::normal);
    small.padding = 0;
    small.unknown = 1;
    small.bos = 2;
    small.eos = 3;
    use(small);
  }
};

TEST_F(FolderWordPiece, PiecesAreMarkedAsGgufMarksThem) {
  const text::Vocabulary read_now = vocabulary([](json::object&, FolderDraft&) {});
  EXPECT_EQ(read_now.model, text::Vocabulary::Model::wordpiece);
  EXPECT_EQ(read_now.pieces, (std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁a", "b", "▁##", "▁#"}));
  EXPECT_EQ(read_now.bos, 2);
  EXPECT_EQ(read_now.eos, 3);
  EXPECT_EQ(read_now.unknown, 1);
  EXPECT_TRUE(read_now.add_bos);
  EXPECT_TRUE(read_now.add_eos);
  EXPECT_FALSE(read_now.parts_pairs_twice);
  EXPECT_EQ(read_now.lower_case, true);
  const auto tokenizer = text::Tokenizer::create(read_now).value();
  EXPECT_EQ(tokenizer->encode("AB abb c").value(), (std::vector<text::Token>{2, 4, 5, 4, 5, 5, 1, 3}));
}

TEST_F(FolderWordPiece, MarksAreTheFilesOrBertsOwn) {
  const text::Vocabulary older = vocabulary([](json::object& tokenizer, FolderDraft&) {
    tokenizer["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}};
  });
  EXPECT_TRUE(older.add_bos && older.add_eos);
  EXPECT_EQ(older.eos, 3);
  const text::Vocabulary without =
      vocabulary([](json::object& tokenizer, FolderDraft&) { tokenizer.erase("post_processor"); });
  EXPECT_TRUE(without.add_bos && without.add_eos);
  const text::Vocabulary named = vocabulary([](json::object& tokenizer, FolderDraft& d) {
    tokenizer["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[PAD]", 0}}, {"cls", {"[UNK]", 1}}};
    d.tokenizer_config["cls_token"] = "[UNK]";
    d.tokenizer_config["sep_token"] = "[PAD]";
  });
  EXPECT_EQ(named.bos, 1);
  EXPECT_EQ(named.eos, 0);
  EXPECT_TRUE(named.add_bos && named.add_eos);
  EXPECT_SAYS(
      refusal(ErrorCode::corrupt, [](json::object&, FolderDraft& d) { d.tokenizer_config["sep_token"] = "[END]"; }),
      "'sep_token' is '[END]', which is no token");
}

TEST_F(FolderWordPiece, TokenizerConfigHoldsOverTheNormalizer) {
  EXPECT_EQ(vocabulary([](json::object&, FolderDraft& d) { d.tokenizer_config["do_lower_case"] = false; }).lower_case,
            false);
  const auto unsupported = [&](const std::function<void(json::object&, FolderDraft&)>& change) {
    return refusal(ErrorCode::unsupported, change);
  };
  EXPECT_SAYS(unsupported([](json::object&, FolderDraft& d) { d.tokenizer_config["strip_accents"] = false; }),
              "'lowercase' true and 'strip_accents' false");
  EXPECT_SAYS(unsupported([](json::object&, FolderDraft& d) { d.tokenizer_config["tokenize_chinese_chars"] = false; }),
              "'handle_chinese_chars' false");
  EXPECT_SAYS(unsupported([](json::object& tokenizer, FolderDraft&) {
                tokenizer["normalizer"].as_object()["clean_text"] = false;
              }),
              "'clean_text' false");
  EXPECT_SAYS(unsupported([](json::object& tokenizer, FolderDraft&) {
                tokenizer["model"].as_object()["continuing_subword_prefix"] = "@@";
              }),
              "'model.continuing_subword_prefix' is '@@'");
  EXPECT_SAYS(unsupported([](json::object& tokenizer, FolderDraft&) {
                tokenizer["pre_tokenizer"] = {{"type", "Whitespace"}};
              }),
              "'pre_tokenizer' is 'Whitespace'; known of WordPiece models are BertNormalizer and BertPreTokenizer");
}

class FolderUnigram : public FolderPieces {
 protected:
  void SetUp() override {
    goldens_ = test::read_unigram_golden();
    use(golden().vocabulary);
  }
  const test::UnigramGolden& golden() const { return goldens_.front(); }

  std::vector<test::UnigramGolden> goldens_;
};

TEST_F(FolderUnigram, TokensAreSentencePiecesOwn) {
  const text::Vocabulary& source = golden().vocabulary;
  const text::Vocabulary read_now = vocabulary([](json::object&, FolderDraft& d) {
    d.config["bos_token_id"] = 1;
    d.tokenizer_config["eos_token"] = "</s>";
  });
  EXPECT_EQ(read_now.model, text::Vocabulary::Model::unigram);
  EXPECT_EQ(read_now.pieces, source.pieces);
  EXPECT_EQ(read_now.scores, source.scores);
  EXPECT_EQ(read_now.kinds, source.kinds);
  EXPECT_EQ(read_now.characters_map, source.characters_map);
  EXPECT_EQ(read_now.unknown, 0);
  EXPECT_TRUE(read_now.add_bos);
  EXPECT_TRUE(read_now.add_eos);
  EXPECT_TRUE(read_now.parts_pairs_twice);
  EXPECT_FALSE(read_now.padding);
  const auto tokenizer = text::Tokenizer::create(read_now).value();
  for (const auto& [text, expected] : golden().cases)
    EXPECT_EQ(tokenizer->encode(text, {.add_special = false}).value(), expected) << text;
}

TEST_F(FolderUnigram, IsKnownAsConvertersOfAllAgesWroteIt) {
  json::object precompiled = draft_.tokenizer->at("normalizer").at("normalizers").at(0).as_object();
  const json::object metaspace = {{"type", "Metaspace"}, {"replacement", "▁"}, {"add_prefix_space", true}};
  const auto written = [&](const json::value& normalizer, const json::value& pre_tokenizer) {
    return vocabulary([&](json::object& tokenizer, FolderDraft&) {
      tokenizer["normalizer"] = normalizer;
      tokenizer["pre_tokenizer"] = pre_tokenizer;
    });
  };
  json::array words;
  words.push_back(json::object{{"type", "WhitespaceSplit"}});
  words.push_back(metaspace);
  const json::object split = {{"type", "Sequence"}, {"pretokenizers", words}};
  const text::Vocabulary older = written(precompiled, split);
  EXPECT_TRUE(older.single_spaces);
  EXPECT_TRUE(older.add_space_prefix);
  EXPECT_EQ(older.characters_map, golden().vocabulary.characters_map);
  EXPECT_FALSE(written(precompiled, metaspace).single_spaces);
  json::object first = metaspace;
  first["prepend_scheme"] = "first";
  EXPECT_TRUE(written(draft_.tokenizer->at("normalizer"), first).single_spaces);
  const auto refused = [&](ErrorCode code, const std::function<void(json::object&)>& change) {
    return refusal(code, [&](json::object& tokenizer, FolderDraft&) { change(tokenizer); });
  };
  EXPECT_SAYS(refused(ErrorCode::unsupported,
                      [](json::object& tokenizer) {
                        tokenizer["normalizer"] = {{"type", "NFKC"}};
                      }),
              "'normalizer' is 'NFKC'");
  EXPECT_SAYS(refused(ErrorCode::corrupt,
                      [&](json::object& tokenizer) {
                        precompiled["precompiled_charsmap"] = "*";
                        tokenizer["normalizer"] = precompiled;
                      }),
              "'precompiled_charsmap' of the normalizer is no base64");
  EXPECT_SAYS(refused(ErrorCode::corrupt,
                      [](json::object& tokenizer) {
                        json::array list;
                        list.push_back(json::array{"a", "b"});
                        tokenizer["model"].as_object()["vocab"] = std::move(list);
                      }),
              "token 0 of 'model.vocab' is [\"a\",\"b\"]; expected a piece and its score");
  EXPECT_SAYS(refused(ErrorCode::corrupt,
                      [](json::object& tokenizer) { tokenizer["model"].as_object()["vocab"] = json::object{}; }),
              "expected a list of pieces with their scores");
  EXPECT_SAYS(
      refused(ErrorCode::corrupt, [](json::object& tokenizer) { tokenizer["model"].as_object()["unk_id"] = 1000000; }),
      "'model.unk_id' is 1000000; expected an id below 470");
}

// RoBERTa's vocabularies are byte-level ones, and stand around texts and between them as SentencePiece's.
TEST_F(FolderPieces, RobertasTextsHaveMarksAroundThem) {
  draft_.tokenizer = json::object{
      {"added_tokens", json::array{{{"id", 0}, {"content", "<s>"}, {"special", true}},
                                   {{"id", 1}, {"content", "</s>"}, {"special", true}},
                                   {{"id", 2}, {"content", "<mask>"}, {"special", true}, {"lstrip", true}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", {{"type", "RobertaProcessing"}, {"sep", {"</s>", 1}}, {"cls", {"<s>", 0}}}},
      {"model", {{"type", "BPE"}, {"vocab", {{"a", 3}, {"b", 4}}}, {"merges", json::array()}}}};
  tokens_ = 5;
  const text::Vocabulary read_now = vocabulary([](json::object&, FolderDraft& d) {
    d.tokenizer_config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"mask_token", "<mask>"}};
  });
  EXPECT_TRUE(read_now.add_bos && read_now.add_eos && read_now.parts_pairs_twice);
  const auto tokenizer = text::Tokenizer::create(read_now).value();
  EXPECT_EQ(tokenizer->encode("ab").value(), (std::vector<text::Token>{0, 3, 4, 1}));
  EXPECT_EQ(tokenizer->encode_first_of_pair("a").value(), (std::vector<text::Token>{0, 3, 1, 1}));
  EXPECT_EQ(tokenizer->encode_second_of_pair("b").value(), (std::vector<text::Token>{4, 1}));
}

}  // namespace
}  // namespace tidemill::model
