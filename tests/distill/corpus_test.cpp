// Files and folders of text, and what of them is left out.
#include "distill/corpus.hpp"

#include <memory>

#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "model/checkpoint.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

class CorpusFiles : public testing::Test {
 protected:
  void SetUp() override {
    const auto file = model::Checkpoint::open(test::nano_coder());
    ASSERT_TRUE(file) << file.error().to_string();
    auto vocabulary = model::read_vocabulary(*file);
    ASSERT_TRUE(vocabulary);
    auto made = text::Tokenizer::create(std::move(vocabulary).value());
    ASSERT_TRUE(made);
    tokenizer_ = std::move(made).value();
  }
  base::Result<Corpus> read(const std::vector<std::string>& names, CorpusOptions options = {}) const {
    std::vector<std::string> paths;
    for (const std::string& name : names)
      paths.push_back((folder_.path() / name).string());
    return read_corpus(*tokenizer_, paths, options);
  }
  std::string text(const Corpus& corpus) const { return tokenizer_->decode(corpus.tokens); }

  test::TemporaryFolder folder_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

TEST_F(CorpusFiles, AreReadInOrder) {
  folder_.put("b.py", "second = 2\n");
  folder_.put("tree/z.py", "fourth = 4\n");
  folder_.put("tree/deep/a.py", "third = 3\n");
  folder_.put("tree/notes.md", "not code\n");
  folder_.put("a.txt", "first = 1\n");
  const auto corpus = read({"a.txt", "b.py", "tree"}, {.ending = ".py", .held_out = {}});
  ASSERT_TRUE(corpus) << corpus.error().to_string();
  EXPECT_EQ(text(*corpus), "first = 1\nsecond = 2\nthird = 3\nfourth = 4\n");
  EXPECT_EQ(corpus->files, 4U);
  EXPECT_EQ(corpus->bytes, 42U);
}

TEST_F(CorpusFiles, ThatRepeatOrAreNoTextAreLeftOut) {
  folder_.put("tree/a.py", "the_same = 1\n");
  folder_.put("tree/b.py", "the_same = 1\n");
  folder_.put("tree/c.bin", "\xff\xfe\x80");
  const auto corpus = read({"tree"});
  ASSERT_TRUE(corpus);
  EXPECT_EQ(text(*corpus), "the_same = 1\n");
  EXPECT_EQ(corpus->repeated, 1U);
  EXPECT_EQ(corpus->not_text, 1U);
}

TEST_F(CorpusFiles, ThatShareLinesWithTheTextHeldOutAreLeftOut) {
  const std::string copied = "    return self.parameters[name] if name in self.parameters else default\n";
  std::string fresh;
  for (int i = 0; i < 10; ++i)
    fresh += "value_of_the_row_number_" + std::to_string(i) + " = compute(rows, columns)\n";
  folder_.put("copy.py", "import os\n" + copied + "x = 1\n");
  folder_.put("other.py", fresh + copied);  // one long line of eleven
  // Indented otherwise, it is the same line.
  const auto corpus = read({"copy.py", "other.py"}, {.ending = {}, .held_out = "def get(name):\n\t" + copied});
  ASSERT_TRUE(corpus);
  EXPECT_EQ(corpus->held_out, 1U);
  EXPECT_EQ(text(*corpus), fresh + copied);
}

TEST_F(CorpusFiles, AreNamedWhenTheyCannotBeRead) {
  const auto refusal = [&](const std::vector<std::string>& names) {
    const auto corpus = read(names);
    return corpus ? std::string("read") : corpus.error().to_string();
  };
  EXPECT_SAYS(refusal({"absent.py"}), "absent.py");
  folder_.put("binary", "\xff\xfe");
  EXPECT_SAYS(refusal({"binary"}), "binary' is not UTF-8 text");
  std::filesystem::create_directories(folder_.path() / "empty");
  EXPECT_SAYS(refusal({"empty"}), "there is no text to learn from");
  EXPECT_SAYS(refusal({}), "there is no text to learn from");
}

TEST_F(CorpusFiles, AreGivenUpWhenToldTo) {
  folder_.put("a.py", "x = 1\n");
  const auto corpus =
      read({"a.py"}, {.ending = {}, .held_out = {}, .on_progress = {}, .cancelled = [] { return true; }});
  ASSERT_FALSE(corpus);
  EXPECT_EQ(corpus.error().code(), base::ErrorCode::cancelled);
}

TEST(KnownLines, CountLongLinesAlone) {
  const KnownLines known("import os\nfrom collections import OrderedDict\n");
  EXPECT_EQ(known.share_of("import os\n"), 0);
  EXPECT_EQ(known.share_of("  from collections import OrderedDict"), 1);
  EXPECT_EQ(known.share_of("from collections import OrderedDict\nfrom collections import defaultdict\n"), 0.5);
  EXPECT_EQ(known.share_of(""), 0);
}

}  // namespace
}  // namespace tidemill::distill
