// BERT, and the many text encoders that share its shape (BGE, E5, GTE, all-MiniLM, ...); RoBERTa and XLM-RoBERTa
// (BGE-M3, multilingual E5) compute the same, with other vocabularies, positions that begin elsewhere and a head of
// their own.
#include <array>

#include "model/architectures/encoder_architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<EncoderParameters> read_bert(const Checkpoint& file) {
  return read_encoder_parameters(file, "bert");
}

constexpr EncoderTensorNames kBertFolderNames = {
    .token_embedding = "embeddings.word_embeddings",
    .position_embedding = "embeddings.position_embeddings",
    .type_embedding = "embeddings.token_type_embeddings",
    .embedding_norm = "embeddings.LayerNorm",
    .query = "attention.self.query",
    .key = "attention.self.key",
    .value = "attention.self.value",
    .attention_output = "attention.output.dense",
    .attention_norm = "attention.output.LayerNorm",
    .up = "intermediate.dense",
    .down = "output.dense",
    .output_norm = "output.LayerNorm",
    .pooler = "pooler.dense",
    .score = "classifier",
};

constexpr EncoderFolderForm roberta(std::string_view model_type) {
  EncoderFolderForm form = {.model_type = model_type,
                            .prefix = "roberta.",
                            .names = kBertFolderNames,
                            .pooler_in_head = true,
                            .positions_behind_padding = true};
  form.names.pooler = "classifier.dense";
  form.names.score = "classifier.out_proj";
  return form;
}

constexpr std::array<EncoderFolderForm, 3> kBertFolders = {{
    {.model_type = "bert", .prefix = "bert.", .names = kBertFolderNames},
    roberta("roberta"),
    roberta("xlm-roberta"),
}};

}  // namespace

extern const EncoderArchitecture kBert;
const EncoderArchitecture kBert = {
    .name = "bert",
    .read_parameters = read_bert,
    .names = {},
    .folders = kBertFolders,
};

}  // namespace tidemill::model
