#include "model/hugging_face/text_steps.hpp"

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace tidemill::model {

namespace json = base::json;

namespace {

std::string_view text_of(const json::object& step, std::string_view key) {
  const json::value* value = step.if_contains(key);
  return value != nullptr && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

bool is_set(const json::object& step, std::string_view key, bool fallback) {
  const json::value* value = step.if_contains(key);
  return value != nullptr && value->is_bool() ? value->get_bool() : fallback;
}

// A regular expression, or plain text. Line breaks are written as escapes, as most authors write them.
std::string pattern_of(const json::object& step) {
  const json::value* pattern = step.if_contains("pattern");
  const json::object* object = pattern == nullptr ? nullptr : pattern->if_object();
  if (object == nullptr) return {};
  const std::string_view regex = text_of(*object, "Regex");
  std::string written;
  for (const char c : regex.empty() ? text_of(*object, "String") : regex) {
    if (c == '\r') {
      written += "\\r";
    } else if (c == '\n') {
      written += "\\n";
    } else {
      written += c;
    }
  }
  return written;
}

std::string describe_metaspace(const json::object& step) {
  const std::string_view written = text_of(step, "prepend_scheme");
  const std::string_view scheme = !written.empty()                         ? written
                                  : is_set(step, "add_prefix_space", true) ? "always"
                                                                           : "never";
  return fmt::format("Metaspace({}, {}{})", text_of(step, "replacement"), scheme,
                     is_set(step, "split", true) ? ", split" : "");
}

std::string describe_split(const json::object& step) {
  const std::string_view behavior = text_of(step, "behavior");
  return fmt::format("Split({}{}{}{})", pattern_of(step), behavior == "Isolated" ? "" : ", ",
                     behavior == "Isolated" ? "" : behavior, is_set(step, "invert", false) ? ", inverted" : "");
}

std::string describe_step(const json::object& step) {
  const std::string_view type = text_of(step, "type");
  if (type == "Split") return describe_split(step);
  if (type == "Metaspace") return describe_metaspace(step);
  if (type == "ByteLevel") {
    return fmt::format("ByteLevel{}{}", is_set(step, "use_regex", true) ? " words" : "",
                       is_set(step, "add_prefix_space", true) ? " behind a space" : "");
  }
  if (type == "Digits") return is_set(step, "individual_digits", false) ? "Digits(each)" : "Digits(runs)";
  if (type == "Punctuation") return fmt::format("Punctuation({})", text_of(step, "behavior"));
  if (type == "Replace") return fmt::format("Replace({}, {})", pattern_of(step), text_of(step, "content"));
  if (type == "Strip") {
    const bool left = is_set(step, "strip_left", true);
    const bool right = is_set(step, "strip_right", true);
    return fmt::format("Strip({}{}{})", left ? "left" : "", left && right ? ", " : "", right ? "right" : "");
  }
  if (type == "Prepend") return fmt::format("Prepend({})", text_of(step, "prepend"));
  return type.empty() ? "?" : std::string(type);
}

void append_steps(const json::value& value, std::string& out) {
  const json::object* step = value.if_object();
  if (step != nullptr && text_of(*step, "type") == "Sequence") {
    for (const std::string_view key : {"pretokenizers", "normalizers"}) {
      const json::value* inner = step->if_contains(key);
      if (inner == nullptr || !inner->is_array()) continue;
      for (const json::value& each : inner->get_array())
        append_steps(each, out);
    }
    return;
  }
  if (!out.empty()) out += " | ";
  out += step == nullptr ? "?" : describe_step(*step);
}

struct KnownSteps {
  std::string_view steps;
  std::string_view name;
  std::optional<bool> ignore_merges = false;  // none: either (kIgnoreMergesKey)
  // Every character is part of a match: to remove what lies between matches is to isolate them.
  bool matches_all = false;
};
constexpr std::string_view kRemoved = ", Removed, inverted)";

// As the models' authors publish them, beside GGUF's name for the same expressions (text/pre_tokenizer.cpp).
constexpr std::string_view kLlama3Steps =
    R"(Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::string_view kQwen2Steps =
    R"(Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::string_view kGpt4oSteps =
    R"(Split([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::string_view kTekkenSteps =
    R"(Split([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::string_view kDeepseekCoderSteps =
    R"(Split([\r\n]) | Split(\s?\p{L}+) | Split(\s?\p{P}+) | Split([一-龥ࠀ-一가-퟿]+) | Digits(each) | ByteLevel)";
// Letters that editors would put others for are written as numbers.
constexpr std::string_view kDeepseekLlmSteps =
    R"(Split([\r\n]) | Split(\s?)"
    R"([A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-)"
    "\u1F7D"
    R"(ᾀ-ᾴᾶ-ᾼ)"
    "\u1FBE"
    R"(ῂ-ῄῆ-ῌῐ-)"
    "\u1FD3"
    R"(ῖ-)"
    "\u1FDB"
    R"(ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ)"
    "\u2126"
    R"(ℨ)"
    "\u212A"
    R"(-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+) | Split(\s?[!-/:-~！-／：-～‘-‟　-。]+) | Split(\s+$) | Split([一-龥ࠀ-一가-퟿]+) | Digits(each) | ByteLevel)";
constexpr std::string_view kDeepseekV3Steps =
    R"(Split(\p{N}{1,3}) | Split([一-龥぀-ゟ゠-ヿ]+) | Split([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::string_view kKimiSteps =
    R"(Split([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+) | ByteLevel)";
constexpr std::array<KnownSteps, 12> kKnownSteps = {{
    {"ByteLevel words", "gpt-2"},
    {"Digits(each) | ByteLevel words", "starcoder"},
    {"Punctuation(Contiguous) | ByteLevel words | Digits(runs) | Split([0-9][0-9][0-9])", "falcon"},
    {kLlama3Steps, "llama-bpe", true, true},
    {kLlama3Steps, "smaug-bpe", false, true},
    {kQwen2Steps, "qwen2", false, true},
    {kGpt4oSteps, "gpt-4o", std::nullopt, true},
    {kTekkenSteps, "tekken", std::nullopt, true},
    {kKimiSteps, "kimi-k2", std::nullopt, true},
    {kDeepseekLlmSteps, "deepseek-llm"},
    {kDeepseekCoderSteps, "deepseek-coder"},
    {kDeepseekV3Steps, "deepseek-v3"},
}};

}  // namespace

std::string describe_steps(const json::value* steps) {
  std::string out;
  if (steps != nullptr && !steps->is_null()) append_steps(*steps, out);
  return out;
}

std::string_view known_pre_tokenizer(std::string_view steps, bool ignore_merges) {
  std::string isolated(steps);
  if (const size_t at = isolated.find(kRemoved); at != std::string::npos) isolated.replace(at, kRemoved.size(), ")");
  for (const KnownSteps& known : kKnownSteps) {
    const bool same = known.steps == steps || (known.matches_all && known.steps == isolated);
    if (same && known.ignore_merges.value_or(ignore_merges) == ignore_merges) return known.name;
  }
  return {};
}

std::string_view kimi_expression() {
  constexpr std::string_view before = "Split(";
  constexpr std::string_view behind = ") | ByteLevel";
  return kKimiSteps.substr(before.size(), kKimiSteps.size() - before.size() - behind.size());
}

std::string known_pre_tokenizers_text() {
  std::string text;
  for (const KnownSteps& known : kKnownSteps)
    text.append(text.empty() ? "" : ", ").append(known.name);
  return text;
}

}  // namespace tidemill::model
