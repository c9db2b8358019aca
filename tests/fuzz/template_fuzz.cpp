// Any bytes as a chat template, by the reference's rules and by the lenient ones: compiled and rendered within its
// limits, or refused; the same every time.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "fuzz/invariant.hpp"
#include "text/chat_template.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

namespace {

void require_presentable(const base::Error& error) {
  require(!error.message().empty() && base::utf8::is_valid(error.message()), "a refusal says why, in UTF-8");
}

void render_by(text::TemplateRules rules, std::string_view source) {
  static const auto context = base::parse_json(R"({
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b> \u00e9"},
                 {"role": "assistant", "content": null,
                  "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
                 {"role": "tool", "tool_call_id": "1", "content": "[1, 2]"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true})");
  const auto compiled = text::ChatTemplate::compile(source, {.rules = rules});
  if (!compiled) return require_presentable(compiled.error());
  text::TemplateLimits limits;
  limits.max_output = 1 << 16;
  limits.max_memory = size_t{16} << 20;
  limits.max_steps = 100'000;
  const auto rendered = compiled->render(context->get_object(), base::WallTime{}, limits);
  if (rendered) {
    require(rendered->size() <= limits.max_output, "the output is within its limit");
    require(base::utf8::is_valid(*rendered), "the output is UTF-8");
  } else {
    require_presentable(rendered.error());
  }
  const auto again = compiled->render(context->get_object(), base::WallTime{}, limits);
  require(static_cast<bool>(again) == static_cast<bool>(rendered) &&
              (again ? *again == *rendered : again.error().message() == rendered.error().message()),
          "a template renders the same every time");
  text::TemplateLimits tight = limits;
  tight.max_steps = 500;
  const auto cut = compiled->render(context->get_object(), base::WallTime{}, tight);
  if (cut) {
    require(rendered && *cut == *rendered, "limits that suffice change nothing");
  } else if (rendered) {
    require(cut.error().code() == base::ErrorCode::too_large, "only the limit can end what would have rendered");
  }
  (void)compiled->probe();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  render_by(text::TemplateRules::reference, source);
  render_by(text::TemplateRules::lenient, source);
  return 0;
}
