#include "wire/sse.hpp"

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

std::vector<SseEvent> parse_in_pieces(std::string_view stream, size_t piece) {
  SseParser parser;
  std::vector<SseEvent> all;
  for (size_t at = 0; at < stream.size(); at += piece) {
    auto events = parser.feed(stream.substr(at, piece));
    EXPECT_TRUE(events);
    if (!events) return all;
    for (auto& event : *events)
      all.push_back(std::move(event));
  }
  return all;
}

TEST(SseWriter, Shapes) {
  EXPECT_EQ(sse_event("{}"), "data: {}\n\n");
  EXPECT_EQ(sse_event("{}", "ping"), "event: ping\ndata: {}\n\n");
  EXPECT_EQ(sse_event("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
  EXPECT_EQ(sse_event(""), "data: \n\n");
  EXPECT_EQ(sse_event("x", "two\nlines"), "event: twolines\ndata: x\n\n");
  EXPECT_EQ(sse_comment("keep-alive"), ": keep-alive\n\n");
}

TEST(SseParser, WhatTheStandardShows) {
  // The examples of the standard's section 9.2.6.
  const std::string_view stream =
      "data: YHOO\ndata: +2\ndata: 10\n\n"
      ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
      "data\n\ndata\ndata\n\ndata:";
  const std::vector<SseEvent> expected = {{"message", "YHOO\n+2\n10", ""},
                                          {"message", "first event", "1"},
                                          {"message", "second event", ""},
                                          {"message", " third event", ""},
                                          {"message", "", ""},
                                          {"message", "\n", ""}};
  for (size_t piece = 1; piece <= stream.size(); ++piece)
    EXPECT_EQ(parse_in_pieces(stream, piece), expected) << piece;
}

TEST(SseParser, LineEndsCutAnywhere) {
  const std::string_view stream =
      "\xEF\xBB\xBF"
      "event: a\r\ndata: 1\r\ndata: 2\r\n\r\nevent: b\rdata: 3\r\rdata: 4\n\n\r\nretry: 5\r\nevent: lost\r\n\r\ndata: "
      "6\n\n";
  const std::vector<SseEvent> expected = {
      {"a", "1\n2", ""}, {"b", "3", ""}, {"message", "4", ""}, {"message", "6", ""}};
  for (size_t piece = 1; piece <= stream.size(); ++piece)
    EXPECT_EQ(parse_in_pieces(stream, piece), expected) << piece;
}

TEST(SseParser, ReadsWhatTheWriterWrites) {
  std::string stream = sse_comment("hello");
  append_sse(stream, "line one\nline two", "delta");
  append_sse(stream, "[DONE]");
  const std::vector<SseEvent> expected = {{"delta", "line one\nline two", ""}, {"message", "[DONE]", ""}};
  EXPECT_EQ(parse_in_pieces(stream, 3), expected);
}

TEST(SseParser, RetryMustBeANumber) {
  SseParser parser;
  ASSERT_TRUE(parser.feed("retry: 1500\nretry: 12x\nretry: 99999999999999\n"));
  EXPECT_EQ(parser.retry_ms(), 1500);
}

TEST(SseParser, AnEndlessEventIsRefused) {
  SseParser lines(100);
  EXPECT_FALSE(lines.feed("data: " + std::string(200, 'x')));
  SseParser many(100);
  base::Result<std::vector<SseEvent>> last = std::vector<SseEvent>();
  for (int i = 0; i < 100 && last; ++i)
    last = many.feed("data: x\n");
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code(), base::ErrorCode::too_large);
  EXPECT_FALSE(many.feed("\n\n"));
}

}  // namespace
}  // namespace tidemill::wire
