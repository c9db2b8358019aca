#include "model/load.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/architectures/encoder_architecture.hpp"
#include "model/decoder.hpp"
#include "model/transformer_encoder.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

base::Result<void> check_options(const LoadOptions& options) {
  if (options.max_batch_rows >= 1 && options.max_batch_rows <= (int64_t{1} << 20)) return {};
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("max_batch_rows is {}; expected 1 to {}", options.max_batch_rows, int64_t{1} << 20));
}

base::Result<bool> holds_encoder(const Checkpoint& file) {
  TM_TRY(const EncoderArchitecture* architecture, find_encoder_architecture(file));
  return architecture != nullptr;
}

base::Result<HyperParameters> read_any_hyper_parameters(const Checkpoint& file) {
  TM_TRY(const EncoderArchitecture* encoder, find_encoder_architecture(file));
  if (encoder != nullptr) {
    TM_TRY(EncoderParameters parameters, encoder->read_parameters(file));
    return std::move(parameters.shape);
  }
  TM_TRY(const Architecture* architecture, find_architecture(file));
  return architecture->read_hyper_parameters(file);
}

base::Result<void> check_loadable(const Checkpoint& file) {
  TM_TRY(const EncoderArchitecture* encoder, find_encoder_architecture(file));
  if (encoder != nullptr) {
    TM_TRY(const EncoderParameters parameters, encoder->read_parameters(file));
    return check_encoder_tensors(file, *encoder, parameters);
  }
  TM_TRY(const Architecture* architecture, find_architecture(file));
  TM_TRY(const HyperParameters hyper, architecture->read_hyper_parameters(file));
  return check_tensors(file, *architecture, hyper);
}

base::Result<std::unique_ptr<Model>> load_model(const Checkpoint& file, tensor::Device& device,
                                                const LoadOptions& options) {
  TM_CHECK(check_options(options));
  TM_TRY(const Architecture* architecture, find_architecture(file));
  TM_TRY(HyperParameters hyper, architecture->read_hyper_parameters(file));
  hyper.choose_rotation(options.context);
  TM_TRY(Weights weights, load_weights(file, *architecture, hyper, device, options));
  TM_TRY(std::unique_ptr<Decoder> decoder,
         Decoder::create(device, std::move(hyper), std::move(weights), options.max_batch_rows));
  return std::unique_ptr<Model>(std::move(decoder));
}

base::Result<std::unique_ptr<Encoder>> load_encoder(const Checkpoint& file, tensor::Device& device,
                                                    const LoadOptions& options) {
  TM_CHECK(check_options(options));
  TM_TRY(const EncoderArchitecture* architecture, find_encoder_architecture(file));
  if (architecture == nullptr) {
    TM_TRY(const Architecture* decoder, find_architecture(file));
    return file.error(base::ErrorCode::unsupported, fmt::format("architecture '{}' is not an encoder", decoder->name));
  }
  TM_TRY(EncoderParameters parameters, architecture->read_parameters(file));
  TM_TRY(EncoderWeights weights, load_encoder_weights(file, *architecture, parameters, device, options));
  const int64_t rows = std::max(options.max_batch_rows, parameters.shape.context);
  TM_TRY(std::unique_ptr<TransformerEncoder> encoder,
         TransformerEncoder::create(device, std::move(parameters), std::move(weights), rows));
  return std::unique_ptr<Encoder>(std::move(encoder));
}

}  // namespace tidemill::model
