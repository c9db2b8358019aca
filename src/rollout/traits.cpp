#include "rollout/traits.hpp"

#include <algorithm>
#include <cmath>

#include "base/utf8.hpp"

namespace tidemill::rollout {
namespace {

constexpr size_t kMostBytes = 8192;
constexpr double kSomeCode = 0.2;  // share of lines from which on there is code

// Words with which lines of code begin, in the languages that agents write most.
constexpr std::array<std::string_view, 24> kOpenings = {
    "def ",     "class ",  "import ", "from ",   "#include", "function ", "const ",  "let ",
    "var ",     "return ", "return;", "if (",    "for (",    "while (",   "//",      "public ",
    "private ", "fn ",     "func ",   "struct ", "use ",     "pub ",      "SELECT ", "async "};

std::string_view trim(std::string_view line) {
  while (!line.empty() && static_cast<unsigned char>(line.front()) <= ' ')
    line.remove_prefix(1);
  while (!line.empty() && static_cast<unsigned char>(line.back()) <= ' ')
    line.remove_suffix(1);
  return line;
}

bool looks_like_code(std::string_view line) {
  constexpr std::string_view kEndings = ";{}";
  if (kEndings.find(line.back()) != std::string_view::npos) return true;
  return std::ranges::any_of(kOpenings, [&](std::string_view opening) { return line.starts_with(opening); });
}

double code_share(std::string_view text) {
  int64_t lines = 0;
  int64_t code = 0;
  bool fenced = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    if (line.starts_with("```")) {
      fenced = !fenced;
      continue;
    }
    ++lines;
    code += fenced || looks_like_code(line) ? 1 : 0;
  }
  return lines == 0 ? 0 : static_cast<double>(code) / static_cast<double>(lines);
}

// log(1 + x) on a scale on which `most` is 1.
double logarithmic(int64_t x, double most) {
  return std::clamp(std::log1p(static_cast<double>(std::max<int64_t>(0, x))) / std::log1p(most), 0.0, 1.0);
}

}  // namespace

TextTraits read_text(std::string_view text) {
  if (text.size() > kMostBytes) text.remove_prefix(text.size() - kMostBytes);
  int64_t letters = 0;
  int64_t other = 0;
  int64_t without_spaces = 0;
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      letters += (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ? 1 : 0;
      ++at;
      continue;
    }
    const auto [c, length, valid] = base::utf8::decode(text.substr(at));
    at += length;
    if (!valid || (c >= 0x2000 && c < 0x2E80) || c < 0xC0) continue;  // punctuation and symbols
    ++letters;
    const bool thai_to_myanmar = (c >= 0x0E00 && c < 0x10A0) || (c >= 0x1780 && c < 0x1800);
    const bool east_asian = (c >= 0x2E80 && c < 0xD800) || (c >= 0xF900 && c < 0xFB00) || (c >= 0x20000 && c < 0x32000);
    if (thai_to_myanmar || east_asian) {
      ++without_spaces;
    } else if (c >= 0x0370 && !(c >= 0x1E00 && c < 0x1F00)) {
      ++other;
    }
  }
  const double all = static_cast<double>(std::max<int64_t>(1, letters));
  return {.code = code_share(text),
          .other_alphabets = static_cast<double>(other) / all,
          .without_spaces = static_cast<double>(without_spaces) / all};
}

Features features_of(const RequestTraits& traits) {
  return {1,
          logarithmic(traits.prompt_tokens, 131072),
          std::clamp(static_cast<double>(traits.prompt_tokens) / 32768, 0.0, 1.0),
          traits.prompt_tokens > 8192 ? 1.0 : 0.0,
          std::clamp(traits.text.code, 0.0, 1.0),
          traits.text.code > kSomeCode ? 1.0 : 0.0,
          traits.tools > 0 ? 1.0 : 0.0,
          logarithmic(traits.tools, 128),
          logarithmic(traits.turns, 256),
          traits.images ? 1.0 : 0.0,
          std::clamp(traits.text.other_alphabets, 0.0, 1.0),
          std::clamp(traits.text.without_spaces, 0.0, 1.0)};
}

}  // namespace tidemill::rollout
