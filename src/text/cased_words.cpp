#include "text/cased_words.hpp"

#include "text/word_scanner.hpp"

namespace tidemill::text {
namespace {

using scan::contraction;
using scan::cut_line_breaks_or_space;
using scan::is_line_break;
using scan::Part;
using scan::skip_numbers;

// In what the expressions differ.
struct CasedForm {
  uint32_t digits;   // of a number, at most
  bool contracts;    // contractions belong to the word before
  bool takes_slash;  // behind signs, among line breaks
  bool parts_han;    // Han characters are words of their own, and in no other
};

template <CasedForm form>
bool is_in_word(const Part& part, uint32_t position) {
  const bool written = part.is(CharacterClass::letter, position) || part.is(CharacterClass::mark, position);
  return written && !(form.parts_han && is_han(part.at(position)));
}

LetterCase case_at(const Part& part, uint32_t position) {
  return part.is(CharacterClass::letter, position) ? case_of(part.at(position)) : LetterCase::none;
}

// Upper is [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], lower [\p{Ll}\p{Lm}\p{Lo}\p{M}], both &&[^\p{Han}] where Han is apart:
// marks and letters without case are both.
template <CasedForm form>
bool is_lower(const Part& part, uint32_t position) {
  return is_in_word<form>(part, position) && case_at(part, position) != LetterCase::upper;
}
template <CasedForm form>
bool is_upper(const Part& part, uint32_t position) {
  return is_in_word<form>(part, position) && case_at(part, position) != LetterCase::lower;
}

// Upper*Lower+  `position` where it does not match.
template <CasedForm form>
uint32_t skip_to_lower(const Part& part, uint32_t position) {
  uint32_t end = position;
  uint32_t behind_caseless = position;  // the last of the run
  for (; is_upper<form>(part, end); ++end) {
    if (case_at(part, end) == LetterCase::none) behind_caseless = end + 1;
  }
  // What is upper alone cannot be the last of the run.
  if (!is_lower<form>(part, end)) return behind_caseless;
  while (is_lower<form>(part, end))
    ++end;
  return end;
}

// Upper+Lower*  where Upper*Lower+ does not match: then nothing lower comes behind.
template <CasedForm form>
uint32_t skip_upper(const Part& part, uint32_t position) {
  while (is_upper<form>(part, position))
    ++position;
  return position;
}

// [^\r\n\p{L}\p{N}]?Upper*Lower+|[^\r\n\p{L}\p{N}]?Upper+Lower*  `position` where it does not match.
template <CasedForm form>
uint32_t cased_word(const Part& part, uint32_t position) {
  const bool led = !is_line_break(part.at(position)) && !part.is(CharacterClass::letter, position) &&
                   !part.is(CharacterClass::number, position);
  for (const auto skip : {skip_to_lower<form>, skip_upper<form>}) {
    for (uint32_t first = position + (led ? 1 : 0);; first = position) {
      if (const uint32_t end = skip(part, first); end > first) return end;
      if (first == position) break;
    }
  }
  return position;
}

// (a cased word)(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
// and before these [\p{Han}]+ where it is apart.
template <CasedForm form>
uint32_t o200k_word(const Part& part, uint32_t position) {
  if (form.parts_han && is_han(part.at(position))) {
    while (is_han(part.at(position)))
      ++position;
    return position;
  }
  if (const uint32_t end = cased_word<form>(part, position); end > position) {
    return end + (form.contracts ? contraction<true>(part, end) : 0);
  }
  if (part.is(CharacterClass::number, position)) return skip_numbers(part, position, form.digits);
  const uint32_t first = position + (part.at(position) == ' ' ? 1 : 0);
  if (part.is_sign(first)) {
    uint32_t end = part.skip_signs(first);
    while (is_line_break(part.at(end)) || (form.takes_slash && part.at(end) == '/'))
      ++end;
    return end;
  }
  return cut_line_breaks_or_space(part, position);
}

constexpr CasedForm kGpt4oForm = {.digits = 3, .contracts = true, .takes_slash = true, .parts_han = false};
constexpr CasedForm kTekkenForm = {.digits = 1, .contracts = false, .takes_slash = true, .parts_han = false};
constexpr CasedForm kKimiForm = {.digits = 3, .contracts = true, .takes_slash = false, .parts_han = true};

}  // namespace

void cut_gpt4o_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  scan::cut_words<o200k_word<kGpt4oForm>>(characters, begin, end, ends);
}

void cut_tekken_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  scan::cut_words<o200k_word<kTekkenForm>>(characters, begin, end, ends);
}

void cut_kimi_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends) {
  scan::cut_words<o200k_word<kKimiForm>>(characters, begin, end, ends);
}

}  // namespace tidemill::text
