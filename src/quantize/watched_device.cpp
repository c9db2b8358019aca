#include "quantize/watched_device.hpp"

#include <cmath>
#include <variant>

namespace tidemill::quantize {

void WatchedDevice::linear(std::span<const tensor::Product> products, const tensor::LinearInput& input) {
  if (watch_) watch_(products, written_out(input));
  inner_.linear(products, input);
}

tensor::ConstMatrix WatchedDevice::written_out(const tensor::LinearInput& input) {
  if (const auto* plain = std::get_if<tensor::ConstMatrix>(&input)) return *plain;
  const auto* normed = std::get_if<tensor::RmsNormed>(&input);
  const tensor::ConstMatrix like = normed != nullptr ? normed->x : std::get<tensor::SiluGated>(input).gate;
  made_.resize(static_cast<size_t>(like.rows * like.cols));
  const tensor::Matrix out{made_.data(), like.rows, like.cols, like.cols};
  if (normed != nullptr) {
    inner_.rms_norm(normed->x, normed->weight, normed->epsilon, out);
    return out;
  }
  const auto& gated = std::get<tensor::SiluGated>(input);
  for (int64_t r = 0; r < like.rows; ++r) {
    for (int64_t c = 0; c < like.cols; ++c) {
      const float gate = gated.gate.row(r)[c];
      out.row(r)[c] = gate / (1 + std::exp(-gate)) * gated.up.row(r)[c];
    }
  }
  return out;
}

}  // namespace tidemill::quantize
