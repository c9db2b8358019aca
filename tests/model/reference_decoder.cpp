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

  // Of YaRN (section 3.4) the root of what it calls 1 / t; of LongRoPE what the file says. DeepSeek has it at scores
  // instead.
  double rotation_magnitude() const {
    if (is("deepseek2")) return 1;
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
      const bool adjacent = is("llama") || is("granite") || is("deepseek2");
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

  // Multi-head latent attention as DeepSeek-V2's report (section 2.1) describes it for training: keys and values of all
  // heads are made of each token's latent, and then attention is the usual one.
  Rows latent_attention(const Rows& h, int64_t index) const {
    const std::string layer = name_of(index);
    const int64_t heads = number("attention.head_count");
    const int64_t rank = number("attention.kv_lora_rank");
    const int64_t rotated = number("rope.dimension_count");
    const int64_t key_dim = number("attention.key_length_mla") - rotated;
    const int64_t value_dim = number("attention.value_length_mla");
    const Rows queries = latent_queries(h, layer);
    const Rows kept = linear(layer + "attn_kv_a_mqa", h);
    const Row latent_norm = vector(layer + "attn_kv_a_norm.weight");
    std::vector<Rows> keys(h.size());
    std::vector<Rows> values(h.size());
    for (size_t t = 0; t < h.size(); ++t) {
      const Row latent = normalise(Row(kept[t].begin(), kept[t].begin() + rank), latent_norm);
      Row turned(kept[t].begin() + rank, kept[t].end());
      rotate(turned, t, index);
      for (int64_t head = 0; head < heads; ++head) {
        Row key = up_from_latent(layer, head, latent, key_dim);
        key.insert(key.end(), turned.begin(), turned.end());
        keys[t].push_back(std::move(key));
        const Rows& all = matrix(layer + "attn_v_b");
        const Rows own(all.begin() + head * value_dim, all.begin() + (head + 1) * value_dim);
        values[t].push_back(times(own, {latent})[0]);
      }
    }
    Rows out(h.size());
    for (size_t t = 0; t < h.size(); ++t) {
      for (int64_t head = 0; head < heads; ++head) {
        Row query = slice(queries[t], head, key_dim + rotated);
        Row turned(query.begin() + key_dim, query.end());
        rotate(turned, t, index);
        std::copy(turned.begin(), turned.end(), query.begin() + key_dim);
        const Row mixed = mixed_values(query, keys, values, t, static_cast<size_t>(head));
        out[t].insert(out[t].end(), mixed.begin(), mixed.end());
      }
    }
    return linear(layer + "attn_output", out);
  }

  Rows latent_queries(const Rows& h, const std::string& layer) const {
    if (!has(layer + "attn_q_a.weight")) return linear(layer + "attn_q", h);
    Rows down = linear(layer + "attn_q_a", h);
    const Row norm = vector(layer + "attn_q_a_norm.weight");
    for (Row& row : down)
      row = normalise(row, norm);
    return linear(layer + "attn_q_b", down);
  }

  // What a head's key is made of: GGUF has the matrix transposed.
  Row up_from_latent(const std::string& layer, int64_t head, const Row& latent, int64_t key_dim) const {
    const Rows& all = matrix(layer + "attn_k_b");
    Row key(static_cast<size_t>(key_dim));
    for (size_t r = 0; r < latent.size(); ++r) {
      const Row& row = all[static_cast<size_t>(head) * latent.size() + r];
      for (size_t i = 0; i < key.size(); ++i)
        key[i] += row[i] * latent[r];
    }
    return key;
  }

  // The mean of a head's values over the tokens up to t. Scores are over the root of a key's size, times the square of
  // YaRN's magnitude, as transformers has it (DeepseekV3Attention, mscale_all_dim).
  Row mixed_values(const Row& query, const std::vector<Rows>& keys, const std::vector<Rows>& values, size_t t,
                   size_t head) const {
    const double strength = 10 * real("rope.scaling.yarn_log_multiplier");
    const double magnitude = 1 + 0.1 * strength * std::log(real("rope.scaling.factor"));
    Row out(values[0][head].size());
    double sum = 0;
    for (size_t s = 0; s <= t; ++s) {
      double score = 0;
      for (size_t i = 0; i < query.size(); ++i)
        score += query[i] * keys[s][head][i];
      const double weight = std::exp(score * magnitude * magnitude / std::sqrt(static_cast<double>(query.size())));
      sum += weight;
      for (size_t i = 0; i < out.size(); ++i)
        out[i] += weight * values[s][head][i];
    }
    return scaled(std::move(out), 1 / sum);
  }

  Rows attention(const Rows& h, int64_t index) const {
    if (is("deepseek2")) return latent_attention(h, index);
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
    if (is("deepseek2")) return mixed_of_groups(h, layer);
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

  // DeepSeek V2's report, section 2.2.2, and V3's, section 2.1.2: of groups of experts some are looked at, those with
  // the best experts or, in V3, with the best two. V3 scores by sigmoids, and a bias is added for choosing alone.
  Row mixed_of_groups(const Row& h, const std::string& layer) const {
    const bool third = number("expert_gating_func") == 2;
    Row scores = times(matrix(layer + "ffn_gate_inp"), {h})[0];
    double sum = 0;
    for (double& v : scores)
      sum += v = third ? 1 / (1 + std::exp(-v)) : std::exp(v);
    for (double& v : scores)
      v = third ? v : v / sum;
    Row wish = scores;
    const Row bias = has(layer + "exp_probs_b.bias") ? vector(layer + "exp_probs_b.bias") : Row(scores.size());
    for (size_t e = 0; e < wish.size(); ++e)
      wish[e] += bias[e];
    const auto groups = static_cast<size_t>(number("expert_group_count"));
    const size_t size = wish.size() / groups;
    std::vector<std::pair<double, size_t>> order;
    for (size_t g = 0; g < groups; ++g) {
      const auto begin = wish.begin() + static_cast<int64_t>(g * size);
      Row group(begin, begin + static_cast<int64_t>(size));
      std::sort(group.rbegin(), group.rend());
      order.emplace_back(third ? group[0] + group[1] : group[0], g);
    }
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<std::pair<double, size_t>> candidates;
    for (size_t i = 0; i < static_cast<size_t>(number("expert_group_used_count")); ++i) {
      for (size_t e = order[i].second * size; e < (order[i].second + 1) * size; ++e)
        candidates.emplace_back(wish[e], e);
    }
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    candidates.resize(static_cast<size_t>(number("expert_used_count")));
    double chosen = 0;
    for (const auto& candidate : candidates)
      chosen += scores[candidate.second];
    const bool normalised = file_.get_bool_or("deepseek2.expert_weights_norm", false).value();
    Row out = expert_output(h, layer, "_shexp", 0);
    for (const auto& candidate : candidates) {
      const double weight = scores[candidate.second] / (normalised ? chosen : 1) * real("expert_weights_scale");
      const Row y = expert_output(h, layer, "_exps", candidate.second);
      for (size_t i = 0; i < out.size(); ++i)
        out[i] += y[i] * weight;
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
