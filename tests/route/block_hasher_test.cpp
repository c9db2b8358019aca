#include "route/block_hasher.hpp"

#include <algorithm>

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using base::json::object;

object body(std::string_view text) {
  return base::parse_json(text).value().as_object();
}

std::vector<BlockHash> blocks_of(std::string_view text, size_t block_bytes = 16) {
  BlockHasher hasher("tenant", block_bytes);
  add_prompt(hasher, body(text));
  return {hasher.blocks().begin(), hasher.blocks().end()};
}

size_t shared(std::span<const BlockHash> a, std::span<const BlockHash> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

TEST(BlockHasher, DoesNotCareWhereTheTextIsCut) {
  std::string text;
  for (int i = 0; i < 1000; ++i)
    text += static_cast<char>('a' + i * 7 % 26);
  BlockHasher whole("s", 64);
  whole.add(text);
  EXPECT_EQ(whole.blocks().size(), 15U);
  for (const size_t piece : {1, 3, 63, 64, 65, 200}) {
    BlockHasher hasher("s", 64);
    for (size_t at = 0; at < text.size(); at += piece)
      hasher.add(std::string_view(text).substr(at, piece));
    EXPECT_TRUE(std::ranges::equal(hasher.blocks(), whole.blocks())) << "pieces of " << piece;
    EXPECT_EQ(hasher.bytes(), 1000U);
  }
}

TEST(BlockHasher, ABlockStandsForAllBeforeItAndForItsSalt) {
  const auto hash = [](std::string_view salt, std::string_view text) {
    BlockHasher hasher(salt, 4);
    hasher.add(text);
    return std::vector<BlockHash>(hasher.blocks().begin(), hasher.blocks().end());
  };
  EXPECT_EQ(shared(hash("s", "aaaabbbbcccc"), hash("s", "aaaabbbbdddd")), 2U);
  EXPECT_NE(hash("s", "aaaabbbb")[1], hash("s", "ccccbbbb")[1]);
  EXPECT_EQ(shared(hash("s", "aaaabbbb"), hash("t", "aaaabbbb")), 0U);
  EXPECT_TRUE(hash("s", "aaa").empty());
}

TEST(BlockHasher, TheNextTurnBeginsWithTheTurnBefore) {
  const std::string first =
      R"({"model":"m","temperature":0.1,"tools":[{"type":"function","function":{"name":"look","parameters":{}}}],)"
      R"("messages":[{"role":"system","content":"Be brief, and be right about it."},)"
      R"({"role":"user","content":"What is the height of the tide today?"}]})";
  const std::string second =
      R"({"model":"m","temperature":0.9,"seed":3,"tools":[{"type":"function","function":{"name":"look","parameters":{}}}],)"
      R"("messages":[{"role":"system","content":"Be brief, and be right about it."},)"
      R"({"role":"user","content":[{"type":"text","text":"What is the height of the tide today?","cache_control":{"type":"ephemeral"}}]},)"
      R"({"role":"assistant","content":"Four metres."},{"role":"user","content":"And tomorrow?"}]})";
  const auto a = blocks_of(first);
  const auto b = blocks_of(second);
  EXPECT_GT(a.size(), 5U);
  EXPECT_EQ(shared(a, b), a.size());
  EXPECT_GT(b.size(), a.size());
}

TEST(BlockHasher, AnAnswerHashedOnIsWhatTheNextTurnBrings) {
  const object first = body(R"({"messages":[{"role":"user","content":"Tell me of the sea and its tides."}]})");
  const object second = body(
      R"({"messages":[{"role":"user","content":"Tell me of the sea and its tides."},)"
      R"({"role":"assistant","content":"It rises and it falls, twice a day."},{"role":"user","content":"Go on."}]})");
  BlockHasher hasher("s", 16);
  add_prompt(hasher, first);
  add_turn(hasher, "assistant", "It rises and it falls, twice a day.");
  BlockHasher next("s", 16);
  add_prompt(next, second);
  EXPECT_GE(hasher.blocks().size(), 4U);
  EXPECT_EQ(shared(hasher.blocks(), next.blocks()), hasher.blocks().size());
}

TEST(BlockHasher, ReadsEveryDialect) {
  for (
      const std::string_view text : {
          R"({"prompt":"Once upon a time there was a mill that stood in the sea."})",
          R"({"prompt":["Once upon a time there was a mill","that stood in the sea."]})",
          R"({"input":"Once upon a time there was a mill that stood in the sea."})",
          R"({"instructions":"Tell a story.","input":[{"role":"user","content":[{"type":"input_text","text":"Once upon a time"}]}]})",
          R"({"system":[{"type":"text","text":"Tell a story."}],"messages":[{"role":"user","content":"Once upon a time"}]})",
          R"({"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"a\":1}"}}]}]})",
          R"({"prompt":[1,2,3,4,5,60000,70000,80000,90000]})",
      }) {
    EXPECT_GE(blocks_of(text).size(), 1U) << text;
  }
}

TEST(BlockHasher, TakesOddBodiesAsTheyAre) {
  for (const std::string_view text : {R"({})", R"({"messages":7})", R"({"messages":[7,null,[],{}]})",
                                      R"({"messages":[{"role":null,"content":null}]})", R"({"prompt":null})",
                                      R"({"tools":"x","system":false,"input":{}})"}) {
    EXPECT_LE(blocks_of(text).size(), 2U) << text;
  }
}

TEST(BlockHasher, DifferentPromptsDiffer) {
  const auto base_case = blocks_of(R"({"messages":[{"role":"user","content":"0123456789abcdef"}]})", 8);
  for (const std::string_view text : {
           R"({"messages":[{"role":"user","content":"X123456789abcdef"}]})",
           R"({"messages":[{"role":"tool","content":"0123456789abcdef"}]})",
           R"({"messages":[{"role":"user","content":"01234567"},{"role":"user","content":"89abcdef"}]})",
           R"({"tools":[{"name":"f"}],"messages":[{"role":"user","content":"0123456789abcdef"}]})",
       }) {
    EXPECT_LT(shared(base_case, blocks_of(text, 8)), base_case.size()) << text;
  }
}

}  // namespace
}  // namespace tidemill::route
