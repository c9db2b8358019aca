// The difficult texts beside the vocabularies of the shared data, and what the models' own tokenizers make of them.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::test {

struct GoldenTexts {
  std::vector<std::string> texts;
  std::vector<std::vector<text::Token>> tokens;  // of each
};

// Of the vocabulary in a GGUF file at `path`.
inline GoldenTexts golden_texts_of(const std::filesystem::path& path) {
  GoldenTexts golden;
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string all = base::read_file(path.string() + ".inp").value();
  size_t begin = 0;
  for (size_t end = 0; (end = all.find(separator, begin)) != std::string::npos; begin = end + separator.size())
    golden.texts.push_back(all.substr(begin, end - begin));
  std::ifstream file(path.string() + ".out");
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    golden.tokens.emplace_back();
    for (text::Token token = 0; numbers >> token;)
      golden.tokens.back().push_back(token);
  }
  return golden;
}

}  // namespace tidemill::test
