#include "gateway/stream_cost.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

// A unit a token.
std::optional<access::Money> cost_of(const TokenUsage& usage) {
  return access::Money{(usage.prompt_tokens.value_or(0) + usage.output_tokens.value_or(0)) * 1'000'000'000};
}

std::string with_costs(std::string_view events) {
  StreamCost cost(cost_of);
  return std::string(cost.add(events));
}

TEST(StreamCost, StandsInTheUsageOfEveryDialect) {
  EXPECT_EQ(with_costs(R"(data: {"usage":{"prompt_tokens":3,"completion_tokens":4},"x":1})"),
            R"(data: {"usage":{"prompt_tokens":3,"completion_tokens":4,"cost":7.00},"x":1})");
  EXPECT_EQ(
      with_costs(
          R"(data: {"response":{"usage": {"input_tokens":3,"input_tokens_details":{"a":[1]},"output_tokens":4 }}})"),
      R"(data: {"response":{"usage": {"input_tokens":3,"input_tokens_details":{"a":[1]},"output_tokens":4 ,"cost":7.00}}})");
  // What was told first counts for what is told last.
  EXPECT_EQ(with_costs("data: {\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n"
                       "data: {\"usage\":{\"output_tokens\":9}}\n\n"),
            "data: {\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"cost\":4.00}}}\n\n"
            "data: {\"usage\":{\"output_tokens\":9,\"cost\":12.00}}\n\n");
}

TEST(StreamCost, LeavesTheRestAsItIs) {
  for (const std::string_view events :
       {R"(data: {"usage":null})", R"(data: {"usage":{}})", R"(data: {"usage":{"x":1}})", R"(data: {"usage":[1]})",
        R"(data: {"content":"\"usage\":{\"input_tokens\":3}"})", R"(data: {"usage":{"input_tokens":3)",
        R"(data: {"usage":{"input_tokens":3,"cost":9}})", "data: {\"usage\":", ""}) {
    StreamCost cost(cost_of);
    EXPECT_EQ(cost.add(events).data(), events.data()) << events;
  }
  StreamCost free([](const TokenUsage&) { return std::nullopt; });
  const std::string_view events = R"(data: {"usage":{"input_tokens":3}})";
  EXPECT_EQ(free.add(events), events);
}

}  // namespace
}  // namespace tidemill::gateway
