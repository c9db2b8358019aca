#include "reference_encoder.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

#include "tensor/dtype.hpp"

namespace tidemill::test {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class ReferenceEncoder {
 public:
  explicit ReferenceEncoder(const model::GgufFile& file) : file_(file) {}

  Rows run(std::span<const int32_t> tokens, std::span<const int32_t> types) const {
    const Rows words = matrix("token_embd");
    const Rows positions = matrix("position_embd");
    const Rows kinds = matrix("token_types");
    Rows x;
    for (size_t t = 0; t < tokens.size(); ++t) {
      Row row = words[static_cast<size_t>(tokens[t])];
      add(row, positions[t]);
      add(row, kinds[static_cast<size_t>(types[t])]);
      x.push_back(row);
    }
    normalise(x, "token_embd_norm");
    const int64_t layers = file_.get_int("bert.block_count").value();
    for (int64_t i = 0; i < layers; ++i)
      layer(x, "blk." + std::to_string(i) + ".");
    return x;
  }

  double score(std::span<const int32_t> tokens, std::span<const int32_t> types) const {
    Rows pooled = linear("cls", {run(tokens, types).front()});
    for (double& v : pooled[0])
      v = std::tanh(v);
    return linear("cls.output", pooled)[0][0];
  }

 private:
  static void add(Row& to, const Row& from) {
    for (size_t i = 0; i < to.size(); ++i)
      to[i] += from[i];
  }

  Row vector(const std::string& name) const {
    const model::GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    tensor::dequantize(tensor->type, tensor->data.data(), tensor->elements(), values.data());
    return {values.begin(), values.end()};
  }

  Rows matrix(const std::string& name) const {
    const Row all = vector(name + ".weight");
    const auto cols = file_.find_tensor(name + ".weight")->cols();
    Rows rows;
    for (auto at = all.begin(); at != all.end(); at += cols)
      rows.emplace_back(at, at + cols);
    return rows;
  }

  Rows linear(const std::string& name, const Rows& x) const {
    const Rows weight = matrix(name);
    const Row bias = vector(name + ".bias");
    Rows y;
    for (const Row& row : x) {
      Row& out = y.emplace_back();
      for (size_t o = 0; o < weight.size(); ++o) {
        double sum = bias[o];
        for (size_t i = 0; i < row.size(); ++i)
          sum += weight[o][i] * row[i];
        out.push_back(sum);
      }
    }
    return y;
  }

  void normalise(Rows& x, const std::string& name) const {
    const Row weight = vector(name + ".weight");
    const Row bias = vector(name + ".bias");
    const double epsilon = file_.get_float("bert.attention.layer_norm_epsilon").value();
    for (Row& row : x) {
      const auto n = static_cast<double>(row.size());
      double mean = 0;
      for (const double v : row)
        mean += v / n;
      double variance = 0;
      for (const double v : row)
        variance += (v - mean) * (v - mean) / n;
      for (size_t i = 0; i < row.size(); ++i)
        row[i] = (row[i] - mean) / std::sqrt(variance + epsilon) * weight[i] + bias[i];
    }
  }

  Rows attention(const Rows& x, const std::string& layer) const {
    const auto heads = static_cast<size_t>(file_.get_int("bert.attention.head_count").value());
    const size_t dim = x[0].size() / heads;
    const Rows queries = linear(layer + "attn_q", x);
    const Rows keys = linear(layer + "attn_k", x);
    const Rows values = linear(layer + "attn_v", x);
    Rows mixed(x.size(), Row(x[0].size(), 0.0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t head = 0; head < heads; ++head) {
        Row weights;
        double sum = 0;
        for (size_t s = 0; s < x.size(); ++s) {
          double score = 0;
          for (size_t i = head * dim; i < (head + 1) * dim; ++i)
            score += queries[t][i] * keys[s][i];
          weights.push_back(std::exp(score / std::sqrt(static_cast<double>(dim))));
          sum += weights.back();
        }
        for (size_t s = 0; s < x.size(); ++s) {
          for (size_t i = head * dim; i < (head + 1) * dim; ++i)
            mixed[t][i] += weights[s] / sum * values[s][i];
        }
      }
    }
    return linear(layer + "attn_output", mixed);
  }

  void layer(Rows& x, const std::string& name) const {
    const Rows attended = attention(x, name);
    for (size_t t = 0; t < x.size(); ++t)
      add(x[t], attended[t]);
    normalise(x, name + "attn_output_norm");
    Rows inner = linear(name + "ffn_up", x);
    for (Row& row : inner) {
      for (double& v : row)
        v = v * std::erfc(-v / std::sqrt(2.0)) / 2;
    }
    const Rows down = linear(name + "ffn_down", inner);
    for (size_t t = 0; t < x.size(); ++t)
      add(x[t], down[t]);
    normalise(x, name + "layer_output_norm");
  }

  const model::GgufFile& file_;
};

}  // namespace

std::vector<std::vector<double>> reference_encode(const model::GgufFile& file, std::span<const int32_t> tokens,
                                                  std::span<const int32_t> types) {
  return ReferenceEncoder(file).run(tokens, types);
}

double reference_score(const model::GgufFile& file, std::span<const int32_t> tokens, std::span<const int32_t> types) {
  return ReferenceEncoder(file).score(tokens, types);
}

}  // namespace tidemill::test
