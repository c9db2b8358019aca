#include "reference_decoder.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <stdexcept>
#include <string>
#include <utility>

#include "tensor/dtype.hpp"

namespace tidemill::test {
namespace {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class Reference {
 public:
  explicit Reference(const model::GgufFile& file)
      : file_(file), architecture_(file.get_string("general.architecture").value()) {}

  ReferenceOutput run(std::span<const int32_t> tokens) {
    const auto layers = number("block_count");
    const Rows& embedding = matrix("token_embd");
    Rows x;
    for (const int32_t token : tokens)
      x.push_back(scaled(embedding[static_cast<size_t>(token)], embedding_scale()));
    for (int64_t i = 0; i < layers; ++i)
      layer(x, i);
    ReferenceOutput out;
    const Row norm = vector("output_norm.weight");
    for (Row& row : x)
      out.hidden.push_back(normalise(row, norm));
    out.logits = times(file_.find_tensor("output.weight") != nullptr ? matrix("output") : embedding, out.hidden);
    for (Row& row : out.logits)
      row = finished(row);
    return out;
  }

 private:
  int64_t number(const std::string& key) const { return file_.get_int(architecture_ + "." + key).value(); }
  int64_t head_dim() const {
    return file_
        .get_int_or(architecture_ + ".attention.key_length",
                    number("embedding_length") / number("attention.head_count"))
        .value();
  }
  double real(const std::string& key) const { return file_.get_float(architecture_ + "." + key).value(); }
  bool is(const char* architecture) const { return architecture_ == architecture; }
  bool is_gemma() const { return is("gemma2") || is("gemma3"); }
  bool has(const std::string& tensor) const { return file_.find_tensor(tensor) != nullptr; }

  Row vector(const std::string& name) const {
    const model::GgufTensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) throw std::runtime_error("no tensor " + name);
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    tensor::dequantize(tensor->type, tensor->data.data(), tensor->elements(), values.data());
    return {values.begin(), values.end()};
  }

  const Rows& matrix(const std::string& name) const {
    Rows& rows = matrices_[name];
    if (!rows.empty()) return rows;
    const Row all = vector(name + ".weight");
    const auto cols = file_.find_tensor(name + ".weight")->cols();
    for (auto at = all.begin(); at != all.end(); at += cols)
      rows.emplace_back(at, at + cols);
    return rows;
  }

  static Row scaled(Row row, double factor) {
    for (double& v : row)
      v *= factor;
    return row;
  }

  // Granite's multipliers (transformers, GraniteConfig): of embeddings, of what is added to the hidden state, of
  // attention scores; logits are divided.
  double embedding_scale() const {
    // Rounded to bfloat16 in Gemma, where the root of the widths under test is a whole number.
    if (is_gemma()) return std::sqrt(static_cast<double>(number("embedding_length")));
    return is("granite") ? real("embedding_scale") : 1;
  }
  double residual_scale() const { return is("granite") ? real("residual_scale") : 1; }
  double attention_scale() const {
    return is("granite") ? real("attention.scale") : 1 / std::sqrt(static_cast<double>(head_dim()));
  }
  Row finished(Row logits) const {
    if (is("granite")) return scaled(logits, 1 / real("logit_scale"));
    if (!is("gemma2")) return logits;
    for (double& v : logits)
      v = capped(v, real("final_logit_softcapping"));
    return logits;
  }
  static double capped(double v, double cap) { return cap * std::tanh(v / cap); }

  // In Gemma 2 and gpt-oss, layers 1, 3, 5, ... see everything, in Gemma 3 layers 5, 11, 17, ...; the others have a
  // window.
  bool sees_all(int64_t layer) const {
    return ((is("gemma2") || is("gpt-oss")) && layer % 2 == 1) || (is("gemma3") && (layer + 1) % 6 == 0);
  }

  // The first token that the one at `t` sees: Mistral 7B's window is the last tokens, its own included.
  size_t first_seen(size_t t, int64_t layer) const {
    const auto window = static_cast<size_t>(file_.get_int_or(architecture_ + ".attention.sliding_window", 0).value());
    return sees_all(layer) || window == 0 || t + 1 < window ? 0 : t + 1 - window;
  }

  static Rows times(const Rows& weight, const Rows& x) {
    Rows y;
    for (const Row& row : x) {
      Row& out = y.emplace_back();
      for (const Row& w : weight) {
        double sum = 0;
        for (size_t i = 0; i < row.size(); ++i)
          sum += w[i] * row[i];
        out.push_back(sum);
      }
    }
    return y;
  }

  Rows linear(const std::string& name, const Rows& x) const {
    Rows y = times(matrix(name), x);
    if (!has(name + ".bias")) return y;
    const Row bias = vector(name + ".bias");
    for (Row& row : y) {
      for (size_t i = 0; i < row.size(); ++i)
        row[i] += bias[i];
    }
    return y;
  }

  // Columns first .. first + count - 1. Phi 3 stacks query, key and value, and gate and up, in this order.
  static Rows columns(const Rows& x, int64_t first, int64_t count) {
    Rows out;
    for (const Row& row : x)
      out.emplace_back(row.begin() + first, row.begin() + first + count);
    return out;
  }

  Row normalise(const Row& x, const Row& weight) const {
    double squares = 0;
    for (const double v : x)
      squares += v * v;
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(x.size()) + real("attention.layer_norm_rms_epsilon"));
    Row y;
    for (size_t i = 0; i < x.size(); ++i)
      y.push_back(x[i] * scale * weight[i]);
    return y;
  }

  // Head `head` of a row.
  static Row slice(const Row& row, int64_t head, int64_t dim) {
    return {row.begin() + head * dim, row.begin() + (head + 1) * dim};
  }

  // What each of the frequencies of `pairs` pairs is divided by. LongRoPE (transformers, Phi3): the long factors for
  // contexts that are longer than the original one, as those of the models under test are.
  Row frequency_factors(size_t pairs) const {
    if (has("rope_factors_long.weight")) return vector("rope_factors_long.weight");
    return has("rope_freqs.weight") ? vector("rope_freqs.weight") : Row(pairs, 1.0);
  }

  bool by_yarn() const { return file_.get_string_or(architecture_ + ".rope.scaling.type", "").value() == "yarn"; }

  // What YaRN leaves of a frequency (arXiv:2309.00071, section 3.2). Of how often pair i turns within the first context
  // the logarithm falls by the same from pair to pair; what is said of turns is said of pairs, and those are rounded to
  // whole ones, outwards, but in gpt-oss. Pairs that turn 32 times or more stay, those that turn once or less are
  // divided by the factor, and of those between a part is.
  double yarn_share(size_t pair, double base, size_t rotated) const {
    if (!by_yarn()) return 1;
    const double context = static_cast<double>(number("rope.scaling.original_context_length"));
    const auto pair_of = [&](double turns) {
      return std::log(context / (2 * std::numbers::pi * turns)) / std::log(base) * static_cast<double>(rotated) / 2;
    };
    const bool whole = file_.get_bool_or(architecture_ + ".rope.scaling.yarn_truncate", !is("gpt-oss")).value();
    const double begin = std::max(0.0, whole ? std::floor(pair_of(32)) : pair_of(32));
    const double end = whole ? std::ceil(pair_of(1)) : pair_of(1);
    const double divided = std::min(1.0, std::max(0.0, (static_cast<double>(pair) - begin) / (end - begin)));
    return (1 - divided) + divided / real("rope.scaling.factor");
  }

  // Of YaRN (section 3.4) the root of what it calls 1 / t; of LongRoPE what the file says.
  double rotation_magnitude() const {
    const double said = file_.get_float_or(architecture_ + ".rope.scaling.attn_factor", 1).value();
    return by_yarn() ? said * (0.1 * std::log(real("rope.scaling.factor")) + 1) : said;
  }

  // The first elements of a head are rotated, all of them in most models.
  // Gemma 3's layers with a window rotate by a base of their own, and only the others are scaled (its report, section
  // 2).
  void rotate(Row& head, size_t position, int64_t layer) const {
    const auto rotated =
        static_cast<size_t>(file_.get_int_or(architecture_ + ".rope.dimension_count", head_dim()).value());
    const size_t half = rotated / 2;
    const Row factors = frequency_factors(half);
    const double magnitude = rotation_magnitude();
    const Row before = head;
    for (size_t i = 0; i < half; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(rotated);
      const bool local = is("gemma3") && !sees_all(layer);
      const double base = real(local ? "rope.freq_base_swa" : "rope.freq_base");
      const double scaling = is("gemma3") && !local ? real("rope.scaling.factor") : 1;
      const double frequency = std::pow(base, exponent) / factors[i] / scaling * yarn_share(i, base, rotated);
      const double angle = static_cast<double>(position) * frequency;
      const bool adjacent = is("llama") || is("granite");
      const size_t a = adjacent ? 2 * i : i;
      const size_t b = adjacent ? 2 * i + 1 : i + half;
      head[a] = magnitude * (before[a] * std::cos(angle) - before[b] * std::sin(angle));
      head[b] = magnitude * (before[a] * std::sin(angle) + before[b] * std::cos(angle));
    }
  }

  // [tokens][heads] heads, normalised where the model does that, and rotated.
  std::vector<Rows> heads_of(const Rows& x, int64_t heads, const std::string& norm, int64_t layer) const {
    const int64_t dim = head_dim();
    std::vector<Rows> all;
    for (size_t t = 0; t < x.size(); ++t) {
      Rows& here = all.emplace_back();
      for (int64_t h = 0; h < heads; ++h) {
        Row head = slice(x[t], h, dim);
        if (has(norm)) head = normalise(head, vector(norm));
        rotate(head, t, layer);
        here.push_back(head);
      }
    }
    return all;
  }

  static std::string name_of(int64_t layer) { return "blk." + std::to_string(layer) + "."; }

  Rows attention(const Rows& h, int64_t index) const {
    const std::string layer = name_of(index);
    const int64_t heads = number("attention.head_count");
    const int64_t kv_heads = number("attention.head_count_kv");
    const int64_t dim = head_dim();
    const Rows all = is("phi3") ? linear(layer + "attn_qkv", h) : Rows();
    const auto project = [&](const char* name, int64_t first, int64_t count) {
      return is("phi3") ? columns(all, first * dim, count * dim) : linear(layer + name, h);
    };
    const auto queries = heads_of(project("attn_q", 0, heads), heads, layer + "attn_q_norm.weight", index);
    const auto keys = heads_of(project("attn_k", heads, kv_heads), kv_heads, layer + "attn_k_norm.weight", index);
    const Rows values = project("attn_v", heads + kv_heads, kv_heads);
    const Row sinks = has(layer + "attn_sinks.weight") ? vector(layer + "attn_sinks.weight") : Row();
    Rows out;
    for (size_t t = 0; t < h.size(); ++t) {
      Row& row = out.emplace_back();
      for (int64_t head = 0; head < heads; ++head) {
        const auto shared = static_cast<size_t>(head / (heads / kv_heads));
        Row weights;
        // What a sink takes gives nothing (transformers, GptOssAttention).
        double sum = sinks.empty() ? 0 : std::exp(sinks[static_cast<size_t>(head)]);
        const size_t first = first_seen(t, index);
        for (size_t s = first; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < static_cast<size_t>(dim); ++i) {
            score += queries[t][static_cast<size_t>(head)][i] * keys[s][shared][i];
          }
          score *= attention_scale();
          if (is("gemma2")) score = capped(score, real("attn_logit_softcapping"));
          weights.push_back(std::exp(score));
          sum += weights.back();
        }
        for (size_t i = 0; i < static_cast<size_t>(dim); ++i) {
          double mixed = 0;
          for (size_t s = first; s <= t; ++s)
            mixed += weights[s - first] / sum * values[s][shared * static_cast<size_t>(dim) + i];
          row.push_back(mixed);
        }
      }
    }
    return linear(layer + "attn_output", out);
  }

  // SiLU; in Gemma GELU, approximated with tanh (Hendrycks and Gimpel 2016).
  double activated(double v) const {
    if (!is_gemma()) return v / (1 + std::exp(-v));
    return v / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
  }

  // gpt-oss (openai/gpt-oss, torch/model.py, swiglu) clamps both, and adds one to the other.
  double gated(double gate, double up) const {
    if (!is("gpt-oss")) return activated(gate) * up;
    const double g = std::min(gate, 7.0);
    return g / (1 + std::exp(-1.702 * g)) * (std::min(std::max(up, -7.0), 7.0) + 1);
  }

  Rows feed_forward(const Rows& h, const std::string& layer) const {
    if (has(layer + "ffn_gate_inp.weight")) {
      Rows out;
      for (const Row& row : h)
        out.push_back(mixed(row, layer));
      return out;
    }
    const int64_t inner = number("feed_forward_length");
    const Rows second = linear(layer + "ffn_up", h);
    Rows gate = is("phi3") ? columns(second, 0, inner) : linear(layer + "ffn_gate", h);
    const Rows up = is("phi3") ? columns(second, inner, inner) : second;
    for (size_t t = 0; t < h.size(); ++t) {
      for (size_t i = 0; i < gate[t].size(); ++i)
        gate[t][i] = gated(gate[t][i], up[t][i]);
    }
    return linear(layer + "ffn_down", gate);
  }

  // A mixture of experts (Shazeer et al. 2017, as transformers has it for Mixtral and Qwen): the softmax over the
  // router's logits; the largest of it; in Mixtral and Qwen 3 divided by their sum.
  Row mixed(const Row& h, const std::string& layer) const {
    const auto used = static_cast<size_t>(number("expert_used_count"));
    std::vector<std::pair<double, size_t>> shares;
    double sum = 0;
    const Row logits = linear(layer + "ffn_gate_inp", {h})[0];
    for (const double logit : logits) {
      shares.emplace_back(std::exp(logit), shares.size());
      sum += shares.back().first;
    }
    std::stable_sort(shares.begin(), shares.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    shares.resize(used);
    if (!is("qwen2moe")) {
      sum = 0;
      for (const auto& share : shares)
        sum += share.first;
    }
    Row out(h.size());
    const auto add = [&](const Row& y, double factor) {
      for (size_t i = 0; i < out.size(); ++i)
        out[i] += y[i] * factor;
    };
    for (const auto& [share, expert] : shares)
      add(expert_output(h, layer, "_exps", expert), share / sum);
    if (is("qwen2moe")) {
      const double logit = times({vector(layer + "ffn_gate_inp_shexp.weight")}, {h})[0][0];
      add(expert_output(h, layer, "_shexp", 0), 1 / (1 + std::exp(-logit)));
    }
    return out;
  }

  Row expert_output(const Row& h, const std::string& layer, const std::string& kind, size_t expert) const {
    const auto part = [&](const char* name) {
      const Rows& all = matrix(layer + name + kind);
      const auto rows = file_.find_tensor(layer + name + kind + ".weight")->shape[1];
      const auto first = all.begin() + static_cast<int64_t>(expert) * rows;
      return Rows(first, first + rows);
    };
    const auto product = [&](const char* name, const Row& x) {
      Row y = times(part(name), {x})[0];
      const std::string bias = layer + name + kind + ".bias";
      const Row all = has(bias) ? vector(bias) : Row();  // of one expert behind another
      for (size_t i = 0; i < y.size() && !all.empty(); ++i)
        y[i] += all[expert * y.size() + i];
      return y;
    };
    Row gate = product("ffn_gate", h);
    const Row up = product("ffn_up", h);
    for (size_t i = 0; i < gate.size(); ++i)
      gate[i] = gated(gate[i], up[i]);
    return product("ffn_down", gate);
  }

  void layer(Rows& x, int64_t index) const {
    const std::string name = name_of(index);
    const auto add = [&](const Rows& y) {
      for (size_t t = 0; t < x.size(); ++t) {
        for (size_t i = 0; i < x[t].size(); ++i)
          x[t][i] += y[t][i] * residual_scale();
      }
    };
    const auto normed = [&](const Rows& rows, const std::string& norm) {
      const Row weight = vector(name + norm);
      Rows h;
      for (const Row& row : rows)
        h.push_back(normalise(row, weight));
      return h;
    };
    // Gemma normalises what a block gives, too.
    const auto behind = [&](const Rows& y, const std::string& norm) { return is_gemma() ? normed(y, norm) : y; };
    add(behind(attention(normed(x, "attn_norm.weight"), index), "post_attention_norm.weight"));
    const char* before = is("gpt-oss") ? "post_attention_norm.weight" : "ffn_norm.weight";
    add(behind(feed_forward(normed(x, before), name), "post_ffw_norm.weight"));
  }

  mutable std::map<std::string, Rows> matrices_;  // that were read
  const model::GgufFile& file_;
  std::string architecture_;
};

}  // namespace

ReferenceOutput reference_forward(const model::GgufFile& file, std::span<const int32_t> tokens) {
  return Reference(file).run(tokens);
}

}  // namespace tidemill::test
