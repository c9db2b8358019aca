#include "quantize/watched_device.hpp"

#include <algorithm>
#include <cmath>
#include <variant>

#include "tensor/exp_constants.hpp"

namespace tidemill::quantize {
namespace {

float gated(tensor::Activation activation, float gate, float up) {
  switch (activation) {
    case tensor::Activation::silu:
      return gate / (1 + std::exp(-gate)) * up;
    case tensor::Activation::gelu_tanh:
      return gate / (1 + std::exp(-gate * (gate * gate * tensor::kGeluCubic + tensor::kGeluLinear))) * up;
    case tensor::Activation::silu_clamped: {
      const float limit = tensor::kClampedSiluLimit;
      const float g = std::min(gate, limit);
      return g / (1 + std::exp(-g * tensor::kClampedSiluSlope)) * (std::clamp(up, -limit, limit) + 1);
    }
  }
  return gate * up;
}

}  // namespace

void WatchedDevice::linear(std::span<const tensor::Product> products, const tensor::LinearInput& input) {
  if (watch_) watch_(products, written_out(input));
  inner_.linear(products, input);
}

tensor::ConstMatrix WatchedDevice::written_out(const tensor::LinearInput& input) {
  if (const auto* plain = std::get_if<tensor::ConstMatrix>(&input)) return *plain;
  const auto* normed = std::get_if<tensor::RmsNormed>(&input);
  const tensor::ConstMatrix like = normed != nullptr ? normed->x : std::get<tensor::Gated>(input).gate;
  made_.resize(static_cast<size_t>(like.rows * like.cols));
  const tensor::Matrix out{made_.data(), like.rows, like.cols, like.cols};
  if (normed != nullptr) {
    inner_.rms_norm(normed->x, normed->weight, normed->epsilon, out);
    return out;
  }
  const auto& both = std::get<tensor::Gated>(input);
  for (int64_t r = 0; r < like.rows; ++r) {
    for (int64_t c = 0; c < like.cols; ++c)
      out.row(r)[c] = gated(both.activation, both.gate.row(r)[c], both.up.row(r)[c]);
  }
  return out;
}

}  // namespace tidemill::quantize
