#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "rollout/agreement.hpp"
#include "rollout/mirror_gate.hpp"
#include "rollout/mirror_report.hpp"

namespace tidemill::rollout {
namespace {

std::unique_ptr<MirrorGate> gate(MirrorOptions options) {
  auto made = MirrorGate::create(std::move(options));
  EXPECT_TRUE(made) << (made ? "" : made.error().to_string());
  return std::move(made).value();
}

TEST(MirrorGate, SamplesItsShareAndTheSameRequestsAlways) {
  const auto one = gate({.name = "m", .share = 0.2, .max_in_flight = 100'000});
  const auto two = gate({.name = "m", .share = 0.2, .max_in_flight = 100'000});
  constexpr int kRequests = 20'000;
  int sampled = 0;
  for (int i = 0; i < kRequests; ++i) {
    const std::string id = "request-" + std::to_string(i);
    const bool here = one->admit(id, 10, 0).has_value();
    EXPECT_EQ(here, two->admit(id, 10, 0).has_value());
    sampled += here ? 1 : 0;
  }
  EXPECT_NEAR(sampled, kRequests * 0.2, 4 * std::sqrt(kRequests * 0.16));
  EXPECT_EQ(one->counts().mirrored, sampled);
  EXPECT_EQ(one->counts().not_sampled, kRequests - sampled);
  EXPECT_EQ(one->counts().in_flight, 0);
}

TEST(MirrorGate, ALargerShareSamplesWhatASmallerDoes) {
  const auto small = gate({.name = "m", .share = 0.1});
  const auto large = gate({.name = "m", .share = 0.3});
  for (int i = 0; i < 2'000; ++i) {
    const std::string id = std::to_string(i);
    EXPECT_LE(small->admit(id, 0, 0).has_value(), large->admit(id, 0, 0).has_value());
  }
}

TEST(MirrorGate, IsBoundedInNumberAndBytes) {
  const auto bounded = gate({.name = "m", .share = 1, .max_in_flight = 2, .max_bytes = 100});
  auto first = bounded->admit("1", 40, 0);
  auto second = bounded->admit("2", 40, 0);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(bounded->admit("3", 1, 0));
  EXPECT_EQ(bounded->counts().in_flight, 2);
  second.reset();
  EXPECT_FALSE(bounded->admit("4", 61, 0));
  EXPECT_EQ(bounded->counts().in_flight, 1);
  EXPECT_TRUE(first->grow(60));
  EXPECT_FALSE(first->grow(1));
  EXPECT_FALSE(bounded->admit("5", 1, 0));
  *first = std::move(*bounded->admit("6", 0, 0));
  EXPECT_TRUE(first->grow(100));
  first.reset();
  EXPECT_TRUE(bounded->admit("7", 100, 0));
  const MirrorCounts counts = bounded->counts();
  EXPECT_EQ(counts.mirrored, 4);
  EXPECT_EQ(counts.dropped_busy, 3);
  EXPECT_EQ(counts.in_flight, 0);
}

TEST(MirrorGate, GoesFirstUnderLoad) {
  const auto polite = gate({.name = "m", .share = 1, .max_pressure = 0.7});
  EXPECT_TRUE(polite->admit("1", 1, 0.69));
  EXPECT_FALSE(polite->admit("1", 1, 0.7));
  EXPECT_FALSE(polite->admit("1", 1, std::nan("")));
  EXPECT_EQ(polite->counts().dropped_pressure, 2);
}

TEST(MirrorGate, TicketsMayOutliveIt) {
  auto short_lived = gate({.name = "m", .share = 1});
  auto ticket = short_lived->admit("1", 1, 0);
  short_lived.reset();
  EXPECT_TRUE(ticket->grow(1));
}

TEST(MirrorGate, NeverHoldsMoreThanItMayWhoeverAsks) {
  const auto shared = gate({.name = "m", .share = 1, .max_in_flight = 3});
  std::atomic<int> held{0};
  std::atomic<int> most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i) {
        const auto ticket = shared->admit("1", 1, 0);
        if (!ticket) continue;
        const int now = ++held;
        int seen = most.load();
        while (seen < now && !most.compare_exchange_weak(seen, now)) {
        }
        --held;
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_LE(most.load(), 3);
  EXPECT_EQ(shared->counts().in_flight, 0);
  EXPECT_EQ(shared->counts().mirrored + shared->counts().dropped_busy, 20'000);
}

TEST(MirrorGate, SaysWhatIsWrong) {
  for (const MirrorOptions& options : {MirrorOptions{.share = 1.5}, MirrorOptions{.share = std::nan("")},
                                       MirrorOptions{.max_in_flight = -1}, MirrorOptions{.max_pressure = 2}}) {
    const auto made = MirrorGate::create(options);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code(), base::ErrorCode::invalid_argument);
  }
}

TEST(Agreement, OfEqualAndOfAlienTexts) {
  for (const char* text : {"", "a", "the tide turns the wheel"}) {
    const Agreement same = compare_texts(text, text);
    EXPECT_TRUE(same.exact);
    EXPECT_EQ(same.prefix + same.word_f1 + same.edit_similarity, 3);
  }
  const Agreement alien = compare_texts("one two three", "four five");
  EXPECT_FALSE(alien.exact);
  EXPECT_EQ(alien.prefix + alien.word_f1 + alien.edit_similarity, 0);
  const Agreement nothing = compare_texts("", "word");
  EXPECT_EQ(nothing.prefix + nothing.word_f1 + nothing.edit_similarity, 0);
}

TEST(Agreement, KnowsPrefixWordsAndOrder) {
  const Agreement swapped = compare_texts("a b c d", "b a c d");
  EXPECT_EQ(swapped.prefix, 0);
  EXPECT_EQ(swapped.word_f1, 1);
  EXPECT_EQ(swapped.edit_similarity, 0.75);
  const Agreement longer = compare_texts("the answer is 42", "the answer is 42, surely");
  EXPECT_NEAR(longer.prefix, 16.0 / 24, 1e-12);
  EXPECT_NEAR(longer.word_f1, 8.0 / 10, 1e-12);  // 4 words; 6 with the comma
  EXPECT_NEAR(longer.edit_similarity, 8.0 / 10, 1e-12);
  const Agreement spaced = compare_texts("a  b", "a b");
  EXPECT_FALSE(spaced.exact);
  EXPECT_EQ(spaced.word_f1, 1);
  EXPECT_EQ(compare_texts(" ", "\n").edit_similarity, 1);
}

TEST(Agreement, TakesCharactersOfScriptsWithoutSpacesForWords) {
  EXPECT_NEAR(compare_texts("潮汐發電", "潮汐發光").word_f1, 0.75, 1e-12);
  EXPECT_NEAR(compare_texts("мельница мелет", "мельница спит").word_f1, 0.5, 1e-12);
  EXPECT_EQ(compare_texts("\xff\xfe", "\xff").exact, false);  // no UTF-8, no harm
}

// The longest common subsequence, by the textbook's table.
size_t subsequence(const std::vector<int>& one, const std::vector<int>& two) {
  std::vector<std::vector<size_t>> table(one.size() + 1, std::vector<size_t>(two.size() + 1));
  for (size_t i = 1; i <= one.size(); ++i) {
    for (size_t j = 1; j <= two.size(); ++j)
      table[i][j] = one[i - 1] == two[j - 1] ? table[i - 1][j - 1] + 1 : std::max(table[i - 1][j], table[i][j - 1]);
  }
  return table[one.size()][two.size()];
}

TEST(Agreement, EditSimilarityIsTheLongestCommonSubsequences) {
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> words[2];
    std::string texts[2];
    for (int side = 0; side < 2; ++side) {
      const size_t length = 1 + random() % 200;
      for (size_t i = 0; i < length; ++i) {
        words[side].push_back(static_cast<int>(random() % (2 + static_cast<unsigned>(round) / 10)));
        texts[side] += "w" + std::to_string(words[side].back()) + " ";
      }
    }
    if (texts[0] == texts[1]) continue;
    const double expected = 2.0 * static_cast<double>(subsequence(words[0], words[1])) /
                            static_cast<double>(words[0].size() + words[1].size());
    EXPECT_NEAR(compare_texts(texts[0], texts[1]).edit_similarity, expected, 1e-12);
  }
}

TEST(Agreement, OfHugeTextsIsOfTheirBeginnings) {
  std::string one;
  for (int i = 0; i < 100'000; ++i)
    one += std::to_string(i) + ' ';
  const Agreement same_beginning = compare_texts(one, one + "x");
  EXPECT_EQ(same_beginning.word_f1, 1);
  EXPECT_EQ(same_beginning.edit_similarity, 1);
  EXPECT_FALSE(same_beginning.exact);
}

MirroredAnswer answer(double seconds, std::string_view text) {
  return {.seconds = seconds, .ttft = seconds / 10, .output_tokens = 100, .text = text};
}

TEST(MirrorReport, PutsBothSidesBesideEachOther) {
  MirrorReport report;
  for (int i = 0; i < 90; ++i)
    report.add("same-" + std::to_string(i), answer(1, "yes"), answer(1.5, "yes"));
  for (int i = 0; i < 9; ++i)
    report.add("other-" + std::to_string(i), answer(1, "a b c d"), answer(1.5, "a b x y"));
  report.add("broken", answer(1, "yes"), {.failed = true});
  const auto json = report.to_json();
  EXPECT_EQ(json.at("pairs").as_int64(), 100);
  EXPECT_EQ(json.at("failed").at("shadow").as_int64(), 1);
  EXPECT_EQ(json.at("failed").at("both").as_int64(), 0);
  EXPECT_NEAR(json.at("exact").as_double(), 90.0 / 99, 1e-12);
  EXPECT_NEAR(json.at("agreement").at("word_f1").at("mean").as_double(), (90 + 9 * 0.5) / 99, 1e-9);
  EXPECT_NEAR(json.at("agreement").at("word_f1").at("p99").as_double(), 1, 0.0101);
  EXPECT_NEAR(json.at("seconds").at("ratio").at("p50").as_double(), 1.5, 0.016);
  EXPECT_NEAR(json.at("ttft").at("stable").at("p90").as_double(), 0.1, 0.001);
  EXPECT_EQ(json.at("output_tokens").at("shadow").at("count").as_int64(), 99);
  EXPECT_EQ(json.at("least_alike").as_array().size(), 9U);
  EXPECT_EQ(json.at("least_alike").at(0).at("edit_similarity").as_double(), 0.5);
  const std::string table = report.to_table();
  EXPECT_NE(table.find("100 pairs; failed: 0 of stable, 1 of the shadow"), std::string::npos) << table;
  EXPECT_NE(table.find("seconds, ratio"), std::string::npos);
}

TEST(MirrorReport, KeepsTheLeastAlikeAndNoMore) {
  MirrorReport report;
  std::string text;
  for (int i = 0; i < 100; ++i) {
    text += "w" + std::to_string(i) + ' ';
    report.add(std::to_string(i), answer(1, "w0 w1 and so on"), answer(1, text));
  }
  const auto json = report.to_json();
  const auto& kept = json.at("least_alike").as_array();
  ASSERT_EQ(kept.size(), 16U);
  for (size_t i = 1; i < kept.size(); ++i)
    EXPECT_LE(kept[i - 1].at("edit_similarity").as_double(), kept[i].at("edit_similarity").as_double());
  EXPECT_EQ(kept[0].at("id").as_string(), "99");
}

TEST(MirrorReport, AddsUp) {
  MirrorReport one;
  MirrorReport two;
  MirrorReport both;
  for (int i = 0; i < 40; ++i) {
    const std::string id = std::to_string(i);
    const auto stable = answer(1 + i, "a b c");
    const auto shadow = answer(2, i % 4 == 0 ? "a b c" : "a c");
    (i % 2 == 0 ? one : two).add(id, stable, shadow);
    both.add(id, stable, shadow);
  }
  one.merge(two);
  // Of those equally unlike, whichever came first is kept.
  const auto numbers = [](const MirrorReport& report) {
    const std::string table = report.to_table();
    return table.substr(0, table.find("least alike"));
  };
  EXPECT_EQ(numbers(one), numbers(both));
  one.merge(one);
  EXPECT_EQ(one.pairs(), 40);
  EXPECT_EQ(MirrorReport().to_json().at("exact").as_double(), 0);
}

}  // namespace
}  // namespace tidemill::rollout
