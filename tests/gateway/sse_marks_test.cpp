#include "gateway/sse_marks.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

struct Read {
  std::string out;
  std::vector<std::string> marks;
  SseMarks::Kind kind = SseMarks::Kind::undecided;
  bool operator==(const Read&) const = default;
};

Read read(const std::vector<std::string_view>& pieces) {
  SseMarks stream(1 << 20);
  Read read;
  for (const std::string_view piece : pieces) {
    EXPECT_TRUE(stream.add(piece));
    while (const auto mark = stream.next(read.out))
      read.marks.emplace_back(*mark);
  }
  read.kind = stream.kind();
  return read;
}

const std::string open_mark = ": tidemill {\"open\":{\"v\":1}}\n\n";
const std::string first_mark = ": tidemill {\"choice\":0,\"tokens\":[1]}\n\n";
const std::string end_mark = ": tidemill {\"end\":true}\n\n";

TEST(SseMarks, TakesThemOut) {
  const Read got = read({open_mark + "data: a\n\n" + first_mark + "data: b\n\ndata: [DONE]\n\n" + end_mark});
  EXPECT_EQ(got.out, "data: a\n\ndata: b\n\ndata: [DONE]\n\n");
  EXPECT_EQ(got.marks,
            (std::vector<std::string>{"{\"open\":{\"v\":1}}", "{\"choice\":0,\"tokens\":[1]}", "{\"end\":true}"}));
  EXPECT_EQ(got.kind, SseMarks::Kind::marked);
}

// However the bytes are cut, the same comes out of them.
TEST(SseMarks, AnyCutGivesTheSame) {
  const std::string whole = open_mark + ": waiting\n\n" + "event: x\ndata: a\n\ndata: b\n\n" + first_mark +
                            ": keep-alive\n\n" + "data: : tidemill no mark\n\n" + first_mark + "data: [DONE]\n\n" +
                            end_mark;
  const Read expected = read({whole});
  EXPECT_EQ(
      expected.out,
      ": waiting\n\nevent: x\ndata: a\n\ndata: b\n\n: keep-alive\n\ndata: : tidemill no mark\n\ndata: [DONE]\n\n");
  EXPECT_EQ(expected.marks.size(), 4U);
  const std::string_view view = whole;
  for (size_t i = 0; i <= whole.size(); ++i) {
    for (size_t j = i; j <= whole.size(); j += 1 + (j % 3))
      ASSERT_EQ(read({view.substr(0, i), view.substr(i, j - i), view.substr(j)}), expected) << i << " " << j;
  }
  std::vector<std::string_view> bytes;
  for (size_t i = 0; i < whole.size(); ++i)
    bytes.push_back(view.substr(i, 1));
  EXPECT_EQ(read(bytes), expected);
}

// A stream that breaks off after any byte has let out exactly what stood before its last whole mark.
TEST(SseMarks, NothingBehindTheLastMarkGoesOut) {
  const std::string a = "data: a\n\n";
  const std::string b = "event: x\ndata: b\n\ndata: c\n\n";
  const std::string whole = open_mark + a + first_mark + b + first_mark;
  const size_t first_complete = open_mark.size() + a.size() + first_mark.size() - 1;  // its blank line is no matter
  for (size_t length = open_mark.size(); length < whole.size() - 1; ++length) {
    EXPECT_EQ(read({std::string_view(whole).substr(0, length)}).out, length < first_complete ? "" : a) << length;
  }
  EXPECT_EQ(read({whole}).out, a + b);
}

TEST(SseMarks, CommentsPassWhereNothingIsHeld) {
  EXPECT_EQ(read({open_mark + ": one\n\n: two\n: lines\n\n"}).out, ": one\n\n: two\n: lines\n\n");
  EXPECT_EQ(read({open_mark + ": half"}).out, "");
  EXPECT_EQ(read({open_mark + "data: held\n\n: comment\n\n"}).out, "");
}

TEST(SseMarks, ForeignStreamsPassEventByEvent) {
  const std::vector<std::string> events = {": OPENROUTER\r\n\r\n", "data: {}\n\n", ": tidemill {\"end\":true}\n\n",
                                           "data: old\r\r", "data: z\n\n"};
  std::string foreign;
  for (const std::string& event : events)
    foreign += event;
  for (size_t i = 0; i <= foreign.size(); ++i) {
    const std::string_view first = std::string_view(foreign).substr(0, i);
    SseMarks stream(1 << 20);
    std::string out;
    ASSERT_TRUE(stream.add(first));
    EXPECT_FALSE(stream.next(out));
    std::string whole_events;  // of the first piece
    for (const std::string& event : events) {
      if (whole_events.size() + event.size() > i) break;
      whole_events += event;
    }
    EXPECT_EQ(out, whole_events) << i;
    ASSERT_TRUE(stream.add(std::string_view(foreign).substr(i)));
    EXPECT_FALSE(stream.next(out));
    EXPECT_EQ(out, foreign) << i;
    EXPECT_EQ(stream.kind(), SseMarks::Kind::foreign);
  }
  EXPECT_EQ(read({": tide"}).kind, SseMarks::Kind::undecided);
  EXPECT_EQ(read({": tide"}).out, "");
}

TEST(SseMarks, AForeignStreamMayEndWithoutABlankLine) {
  SseMarks stream(1 << 20);
  std::string out;
  ASSERT_TRUE(stream.add("data: a\n\ndata: b"));
  EXPECT_FALSE(stream.next(out));
  EXPECT_EQ(out, "data: a\n\n");
  std::string unread = out;
  SseMarks same = stream;
  same.finish_unread(unread);
  EXPECT_EQ(unread, "data: a\n\ndata: b");
  EXPECT_EQ(same.held(), 0U);
  stream.finish(out);
  EXPECT_EQ(out, "data: a\n\n") << "half an event goes no further";
  EXPECT_EQ(stream.held(), 0U);
}

TEST(SseMarks, WhatIsHeldIsBounded) {
  SseMarks stream(100);
  std::string out;
  ASSERT_TRUE(stream.add(open_mark));
  while (stream.next(out)) {
  }
  ASSERT_TRUE(stream.add(std::string(100, 'x')));
  EXPECT_FALSE(stream.next(out));
  EXPECT_EQ(stream.held(), 100U);
  const auto more = stream.add("x");
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code(), base::ErrorCode::too_large);
}

TEST(SseMarks, KnowTheBeginningOfAnEvent) {
  const auto holds_event = [](const std::string& bytes) {
    SseMarks stream(1 << 20);
    std::string out;
    EXPECT_TRUE(stream.add(bytes));
    while (stream.next(out)) {
    }
    return stream.holds_event();
  };
  const std::vector<std::string> begins = {"", "data: a\n\n", open_mark, open_mark + "data: a\n\n" + first_mark};
  for (const std::string& begin : begins) {
    for (const char* none : {"", ": ", ": a comm", ": a comment\n", ": a comment\n\n", ": a\n\n: b"})
      EXPECT_FALSE(holds_event(begin + none)) << begin << none;
    for (const char* some : {"d", "data: {", "data: {}\n", "event: x\ndata", ": a\n\ndata: {", ": a\ndata: {"})
      EXPECT_TRUE(holds_event(begin + some)) << begin << some;
  }
  EXPECT_TRUE(holds_event(open_mark + "data: a\n\n")) << "it waits for its mark";
  EXPECT_FALSE(holds_event("data: a\r\n\r\n: \r\n"));
}

}  // namespace
}  // namespace tidemill::gateway
