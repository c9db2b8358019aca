// BERT, and the many text encoders that share its shape (BGE, E5, GTE, all-MiniLM, ...).
#include "model/architectures/encoder_architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<EncoderParameters> read_bert(const Checkpoint& file) {
  return read_encoder_parameters(file, "bert");
}

}  // namespace

extern const EncoderArchitecture kBert;
const EncoderArchitecture kBert = {
    .name = "bert",
    .read_parameters = read_bert,
    .names = {},
};

}  // namespace tidemill::model
