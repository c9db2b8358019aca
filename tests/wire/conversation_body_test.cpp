#include "wire/conversation_body.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

namespace json = base::json;

// The parameter that the error names; "(none)" when the body is accepted.
std::string body_fault(std::string_view body, std::string_view required = "", ItemKinds kinds = ItemKinds::own) {
  const auto read = parse_conversation_body(body, required, kinds);
  return read ? "(none)" : read.error().param();
}
std::string of_item(std::string_view item, ItemKinds kinds = ItemKinds::own) {
  return body_fault(R"({"items":[)" + std::string(item) + "]}", "items", kinds);
}

TEST(ConversationBody, HasItemsAndMetadata) {
  const auto read = parse_conversation_body(
      R"({"items":[{"role":"user","content":"a"},{"type":"message","role":"assistant","content":[
          {"type":"output_text","text":"b"}]}],"metadata":{"k":"v"},"unheard_of":1})",
      "", ItemKinds::own);
  ASSERT_TRUE(read) << read.error().to_string();
  ASSERT_EQ(read->items.size(), 2u);
  EXPECT_EQ(read->items[0], (json::value{{"role", "user"}, {"content", "a"}})) << "as it was sent";
  EXPECT_EQ(read->metadata, (json::object{{"k", "v"}}));
  for (const char* nothing : {"", "{}", R"({"items":null,"metadata":null})", R"({"items":[]})"}) {
    const auto empty = parse_conversation_body(nothing, "", ItemKinds::own);
    ASSERT_TRUE(empty) << nothing;
    EXPECT_TRUE(empty->items.empty());
    EXPECT_TRUE(empty->metadata.empty());
  }
}

TEST(ConversationBody, NamesThePlaceOfAFault) {
  for (const char* body : {"[]", "5", "{", "\xff"})
    EXPECT_FALSE(parse_conversation_body(body, "", ItemKinds::any)) << body;
  EXPECT_EQ(body_fault(R"({"metadata":5})"), "metadata");
  EXPECT_EQ(body_fault(R"({"metadata":{"k":5}})"), "metadata.k");
  EXPECT_EQ(body_fault("{}", "metadata"), "metadata");
  EXPECT_EQ(body_fault(R"({"metadata":null})", "metadata"), "(none)");
  EXPECT_EQ(body_fault("{}", "items"), "items");
  EXPECT_EQ(body_fault(R"({"items":[]})", "items"), "items");
  EXPECT_EQ(body_fault(R"({"items":"x"})"), "items");
  std::string many;
  for (int i = 0; i < 20; ++i)
    many += (i == 0 ? "" : ",") + std::string(R"({"role":"user","content":"x"})");
  EXPECT_EQ(of_item(many), "(none)");
  EXPECT_EQ(of_item(many + "," + R"({"role":"user","content":"x"})"), "items");
}

TEST(ConversationBody, TakesItemsThatATurnCanGoOnFrom) {
  EXPECT_EQ(of_item("5"), "items[0]");
  EXPECT_EQ(of_item(R"({"role":"king","content":"x"})"), "items[0].role");
  EXPECT_EQ(of_item(R"({"role":"user"})"), "items[0].content");
  EXPECT_EQ(of_item(R"({"role":"user","content":"x"},{"type":5})"), "items[1].type");
  EXPECT_EQ(of_item(R"({"id":5,"role":"user","content":"x"})"), "items[0].id");
  EXPECT_EQ(of_item(R"({"id":"","role":"user","content":"x"})"), "items[0].id");
  EXPECT_EQ(of_item(R"({"id":")" + std::string(65, 'a') + R"(","role":"user","content":"x"})"), "items[0].id");
  EXPECT_EQ(of_item(R"({"type":"item_reference","id":"a"})"), "items[0].type");
  EXPECT_EQ(of_item(R"({"type":"item_reference","id":"a"})", ItemKinds::any), "items[0].type");
  // A call and its output may come one by one.
  EXPECT_EQ(of_item(R"({"type":"function_call","call_id":"c","name":"f","arguments":"{}"})"), "(none)");
  EXPECT_EQ(of_item(R"({"type":"function_call_output","call_id":"c","output":"x"})"), "(none)");
  EXPECT_EQ(of_item(R"({"type":"function_call_output","output":"x"})"), "items[0].call_id");
  EXPECT_EQ(of_item(R"({"type":"function_call_output","call_id":"c"})"), "items[0].output");
  EXPECT_EQ(of_item(R"({"type":"reasoning","summary":[]})"), "(none)");
  // What only other servers read.
  EXPECT_EQ(of_item(R"({"type":"computer_call"})"), "items[0].type");
  EXPECT_EQ(of_item(R"({"type":"computer_call"})", ItemKinds::any), "(none)");
}

}  // namespace
}  // namespace tidemill::wire
