// tokenizer.json of DeepSeek V2 (and DeepSeek LLM, whose tokenizer it has) and of Kimi K2, as their steps are written
// there: text has the ids of the models' own tokenizers.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "data.hpp"
#include "folder_writer.hpp"
#include "golden_texts.hpp"
#include "model/gguf.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"
#include "translated_tokenizer.hpp"

namespace tidemill::model {
namespace {

using test::FolderDraft;
namespace json = base::json;

json::object split_by(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json::object in_turn(json::array steps) {
  steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// Letters with case, some as numbers where the composed twin is another character.
// The formatter counts these characters anew each time.
// clang-format off
constexpr std::string_view kLetters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-"
    "Ὅὐ-"
    "ὗὙὛὝὟ-\u1F7Dᾀ-ᾴᾶ-ᾼ\u1FBE"
    "ῂ-ῄῆ-ῌῐ-\u1FD3ῖ-\u1FDBῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212A-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-"
    "ﬗＡ-"
    "Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
// clang-format on

json::object deepseek_llm_steps() {
  json::array steps;
  for (const std::string_view regex :
       {std::string_view("[\r\n]"), kLetters, std::string_view("\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"),
        std::string_view("\\s+$"), std::string_view("[一-龥ࠀ-一가-퟿]+")})
    steps.push_back(split_by(regex));
  steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  return in_turn(std::move(steps));
}

TEST(FolderWordCuts, DeepSeekV2sEveryVectorComesOutExactly) {
  const auto path = test::data_root() / "tokenizers" / "ggml-vocab-deepseek-llm.gguf";
  TM_SKIP_WITHOUT(path);
  const GgufFile file = GgufFile::open(path).value();
  text::Vocabulary source = read_vocabulary(file).value();
  source.pre = "gpt-2";  // whose steps are replaced
  FolderDraft draft;
  draft.tokenizer = test::tokenizer_json(source);
  draft.tokenizer->as_object()["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
  draft.tokenizer->as_object()["pre_tokenizer"] = deepseek_llm_steps();
  const test::TemporaryFolder folder;
  draft.write(folder.path());
  auto translated = test::translate(folder.path(), source.size());
  ASSERT_TRUE(translated) << translated.error().to_string();
  EXPECT_EQ(translated->vocabulary.pre, "deepseek-llm");
  const auto tokenizer = text::Tokenizer::create(std::move(translated->vocabulary));
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();

  const auto [texts, expected] = test::golden_texts_of(path);
  ASSERT_GT(texts.size(), 40U);
  ASSERT_EQ(texts.size(), expected.size());
  for (size_t i = 0; i < texts.size(); ++i)
    EXPECT_EQ((*tokenizer)->encode(texts[i], {.add_special = false}).value(), expected[i]) << "'" << texts[i] << "'";
}

TEST(FolderWordCuts, KimisAreKnownWhateverMergesAreFor) {
  const std::string cased = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])";
  const std::string lower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])";
  const std::string before = R"([^\r\n\p{L}\p{N}]?)";
  const std::string behind = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|";
  const std::string regex = R"([\p{Han}]+|)" + before + cased + "*" + lower + "+" + behind + before + cased + "+" +
                            lower + "*" + behind + R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  json::array steps;
  steps.push_back(split_by(regex));
  for (const bool whole_words : {false, true}) {
    FolderDraft draft;
    draft.tokenizer = json::object{{"pre_tokenizer", in_turn(steps)},
                                   {"model",
                                    {{"type", "BPE"},
                                     {"ignore_merges", whole_words},
                                     {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}},
                                     {"merges", json::array()}}}};
    const test::TemporaryFolder folder;
    draft.write(folder.path());
    const auto translated = test::translate(folder.path(), 3);
    ASSERT_TRUE(translated) << translated.error().to_string();
    EXPECT_EQ(translated->vocabulary.pre, "kimi-k2");
    EXPECT_EQ(translated->vocabulary.ignore_merges, whole_words);
    EXPECT_FALSE(translated->vocabulary.add_bos);
  }
}

}  // namespace
}  // namespace tidemill::model
