// Writes random JSON texts that a schema's grammar allows, and says whether it allows given ones: for the tests that
// ask an independent validator (tests/e2e/json_schema.test.mjs).
//
// One JSON object per line comes in: {"schema": ..., "seed": number, "count": number, "texts": [string]}; of these,
// seed, count and texts may be absent, and "lines": true allows indented output. One line goes out for each:
// {"samples": [string], "accepted": [boolean]} or {"error": message, "code": code}.
#include <array>
#include <iostream>
#include <random>
#include <string>

#include "base/json.hpp"
#include "grammar/builder.hpp"
#include "grammar/derivatives.hpp"
#include "grammar/json_schema.hpp"

namespace {

using namespace tidemill;
namespace json = base::json;

class Sampler {
 public:
  explicit Sampler(const grammar::Grammar& grammar) : root_(grammar.root()), derivatives_(grammar.expressions()) {}

  // Empty where the text grew too long to be finished.
  std::string sample(std::mt19937_64& random) {
    std::string text;
    grammar::NodeIndex node = root_;
    while (text.size() < kLongest) {
      const grammar::ByteSet next = derivatives_.expressions().first(node);
      if (derivatives_.expressions().at(node).nullable && (next.none() || random() % 3 == 0)) return text;
      const uint8_t byte = choose(next, text.size(), random);
      text += static_cast<char>(byte);
      node = derivatives_.by_byte(node, byte);
    }
    return "";
  }

  bool accepts(std::string_view text) {
    grammar::NodeIndex node = root_;
    for (const char c : text)
      node = derivatives_.by_byte(node, static_cast<uint8_t>(c));
    return derivatives_.expressions().at(node).nullable;
  }

 private:
  static constexpr size_t kLongest = 8'000;

  // What closes is preferred, the more so the longer the text is.
  static uint8_t choose(const grammar::ByteSet& set, size_t length, std::mt19937_64& random) {
    std::array<double, 256> weights{};
    for (size_t byte = 0; byte < 256; ++byte) {
      if (!set[byte]) continue;
      weights[byte] = byte >= 0x80 ? 0.02 : 1;
      if (byte == '"') weights[byte] = 12;
      if (byte == '}' || byte == ']') weights[byte] = 4 + static_cast<double>(length) / 20;
      if (byte == '\\') weights[byte] = 3;
      if (byte == ',' || byte == '.' || byte == '-') weights[byte] = 3;
      if ((byte == '{' || byte == '[') && length > 200) weights[byte] = 0.05;
    }
    return static_cast<uint8_t>(std::discrete_distribution<int>(weights.begin(), weights.end())(random));
  }

  grammar::NodeIndex root_;
  grammar::Derivatives derivatives_;
};

json::object answer(const std::string& line) {
  const auto failure = [](const base::Error& error) {
    return json::object{{"error", error.message()}, {"code", base::to_string(error.code())}};
  };
  const auto request = base::parse_json(line, 400);
  if (!request) return failure(request.error());
  const json::object& fields = request->as_object();
  grammar::JsonSchemaOptions options;
  if (fields.contains("lines")) options.space = grammar::JsonSchemaOptions::Space::lines;
  grammar::GrammarBuilder builder;
  const auto root = grammar::json_schema(builder, fields.at("schema"), options);
  if (!root) return failure(root.error());
  const auto built = std::move(builder).build(*root);
  if (!built) return failure(built.error());
  Sampler sampler(**built);
  std::mt19937_64 random(fields.contains("seed") ? fields.at("seed").to_number<uint64_t>() : 1);
  json::array samples;
  const int count = fields.contains("count") ? fields.at("count").to_number<int>() : 0;
  for (int i = 0; i < count; ++i) {
    std::string text = sampler.sample(random);
    if (!text.empty()) samples.emplace_back(std::move(text));
  }
  json::array accepted;
  if (const auto* texts = fields.if_contains("texts")) {
    for (const json::value& text : texts->as_array())
      accepted.emplace_back(sampler.accepts(text.as_string()));
  }
  return {{"samples", std::move(samples)}, {"accepted", std::move(accepted)}};
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line))
    std::cout << json::serialize(answer(line)) << '\n' << std::flush;
}
