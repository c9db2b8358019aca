// Hugging Face folders of text encoders written for tests, without the code under test.
#pragma once

#include <string>
#include <string_view>

#include "base/json.hpp"
#include "folder_writer.hpp"
#include "model/gguf.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::test {

// What transformers would have saved of the encoder in `file`, of the architecture bert, as a model of the type bert,
// roberta or xlm-roberta: the tensors' names, the rows of the table of positions and the head are that type's.
FolderDraft encoder_draft_of(const model::GgufFile& file, std::string_view model_type);

// tokenizer.json of a WordPiece vocabulary, as BERT's authors published it.
base::json::value wordpiece_json(const text::Vocabulary& vocabulary);

// tokenizer.json of a unigram vocabulary, as transformers makes it of a SentencePiece model.
base::json::value unigram_json(const text::Vocabulary& vocabulary);

// RFC 4648.
std::string base64(std::string_view bytes);

}  // namespace tidemill::test
