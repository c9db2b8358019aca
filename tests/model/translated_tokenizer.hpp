// The tokenizer of a Hugging Face folder as Tidemill takes it, without the model.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "base/result.hpp"
#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hugging_face/tokenizer.hpp"
#include "model/vocabulary.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::test {

// What the folder's files become: metadata in a file of their own.
struct Translated {
  std::string header;
  text::Vocabulary vocabulary;
  std::string chat_template;
};

inline base::Result<Translated> translate(const std::filesystem::path& folder, size_t tokens) {
  Translated out;
  TM_TRY(const model::JsonMembers config, model::JsonMembers::read(folder / "config.json", size_t{1} << 20));
  TM_TRY(model::TokenizerFiles files, model::read_tokenizer_files(folder));
  model::GgufWriter metadata;
  TM_CHECK(model::translate_tokenizer(std::move(files), config, static_cast<int64_t>(tokens), metadata));
  out.header = metadata.header();
  TM_TRY(const model::GgufFile file, model::GgufFile::parse(std::as_bytes(std::span(out.header)), "translated.gguf"));
  TM_TRY(out.vocabulary, model::read_vocabulary(file));
  TM_TRY(out.chat_template, model::read_chat_template(file));
  return out;
}

}  // namespace tidemill::test
