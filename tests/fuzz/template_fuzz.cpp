// Any bytes as a chat template: compiled and rendered within its limits, or refused.
#include <cstdint>
#include <string>

#include "base/json.hpp"
#include "text/chat_template.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto context = base::parse_json(R"({
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b> \u00e9"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
                 {"role": "tool", "tool_call_id": "1", "content": "[1, 2]"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})");
  const auto compiled = text::ChatTemplate::compile(std::string(reinterpret_cast<const char*>(data), size));
  if (!compiled) return 0;
  text::TemplateLimits limits;
  limits.max_output = 1 << 16;
  limits.max_steps = 100'000;
  (void)compiled->render(context->get_object(), base::WallTime{}, limits);
  return 0;
}
