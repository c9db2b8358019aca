#include "model/load.hpp"

#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/decoder.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

base::Result<std::unique_ptr<Model>> load_model(const Checkpoint& file, tensor::Device& device,
                                                const LoadOptions& options) {
  if (options.max_batch_rows < 1 || options.max_batch_rows > (int64_t{1} << 20)) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("max_batch_rows is {}; expected 1 to {}", options.max_batch_rows, int64_t{1} << 20));
  }
  TM_TRY(const Architecture* architecture, find_architecture(file));
  TM_TRY(HyperParameters hyper, architecture->read_hyper_parameters(file));
  TM_TRY(Weights weights, load_weights(file, *architecture, hyper, device, options));
  TM_TRY(std::unique_ptr<Decoder> decoder,
         Decoder::create(device, std::move(hyper), std::move(weights), options.max_batch_rows));
  return std::unique_ptr<Model>(std::move(decoder));
}

}  // namespace tidemill::model
