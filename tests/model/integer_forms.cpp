#include "integer_forms.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "eight_bits.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::test {
namespace {

using PublisherForm = IntegerPublisher::Form;
namespace json = base::json;

// What a publisher knows of a matrix before it is stored.
struct Quantised {
  int64_t rows;
  int64_t cols;
  int64_t groups;
  std::vector<int> codes;     // [rows][cols], from 0 on
  std::vector<int> zeros;     // [rows][groups]
  std::vector<float> scales;  // [rows][groups], as their type holds them
  std::vector<int> group_of;  // [cols]
};

float as_stored(const std::string& dtype, float value) {
  if (dtype == "F32") return value;
  if (dtype == "F16") return tensor::f16_to_f32(tensor::f32_to_f16(value));
  uint16_t bits = 0;
  std::memcpy(&bits, bf16_bytes(value).data(), sizeof bits);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

std::string scale_bytes(const std::string& dtype, float value) {
  if (dtype == "BF16") return bf16_bytes(value);
  const uint16_t half = tensor::f32_to_f16(value);
  return dtype == "F16" ? std::string(reinterpret_cast<const char*>(&half), 2)
                        : std::string(reinterpret_cast<const char*>(&value), 4);
}

std::string word_bytes(const std::vector<uint32_t>& words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint32_t)};
}

Quantised quantise_matrix(const IntegerPublisher& publisher, const FolderTensor& source) {
  Quantised q{source.shape.at(0), source.shape.at(1), 1, {}, {}, {}, {}};
  const int64_t group = publisher.group < 0 ? q.cols : publisher.group;
  q.groups = (q.cols + group - 1) / group;
  for (int64_t col = 0; col < q.cols; ++col)
    q.group_of.push_back(static_cast<int>((publisher.scattered ? (col * 7 + 3) % q.cols : col) / group));
  std::vector<float> values(static_cast<size_t>(q.rows * q.cols));
  std::memcpy(values.data(), source.bytes.data(), source.bytes.size());
  const int most = (1 << publisher.bits) - 1;
  float widest = 0;
  for (const float value : values)
    widest = std::max(widest, std::abs(value));
  for (int64_t row = 0; row < q.rows; ++row) {
    for (int64_t g = 0; g < q.groups; ++g) {
      float low = 0;
      float high = 0;
      for (int64_t col = 0; col < q.cols; ++col) {
        if (q.group_of[static_cast<size_t>(col)] != g) continue;
        low = std::min(low, values[static_cast<size_t>(row * q.cols + col)]);
        high = std::max(high, values[static_cast<size_t>(row * q.cols + col)]);
      }
      const float extreme = publisher.whole ? widest : std::max(-low, high);
      const float step = publisher.symmetric ? extreme / static_cast<float>(1 << (publisher.bits - 1))
                                             : (high - low) / static_cast<float>(most);
      const float scale = as_stored(publisher.scale_dtype, std::max(step, 1e-4F));
      q.scales.push_back(scale);
      const int zero = static_cast<int>(std::lround(-low / scale));
      // AutoGPTQ's form has no zero of 0.
      q.zeros.push_back(publisher.symmetric ? 1 << (publisher.bits - 1)
                                            : std::clamp(zero, publisher.form == PublisherForm::gptq ? 1 : 0, most));
    }
  }
  for (int64_t i = 0; i < q.rows * q.cols; ++i) {
    const auto at = static_cast<size_t>(i / q.cols * q.groups + q.group_of[static_cast<size_t>(i % q.cols)]);
    const auto steps = std::lround(values[static_cast<size_t>(i)] / q.scales[at]);
    q.codes.push_back(std::clamp(static_cast<int>(steps) + q.zeros[at], 0, most));
  }
  return q;
}

// `count` codes, of which word w has those that `code(w, i)` gives, i-th from the low bits up.
template <typename Code>
std::string pack_words(int64_t words, int bits, const Code& code) {
  std::vector<uint32_t> packed(static_cast<size_t>(words), 0);
  for (int64_t w = 0; w < words; ++w) {
    for (int i = 0; i < 32 / bits; ++i)
      packed[static_cast<size_t>(w)] |= static_cast<uint32_t>(code(w, i)) << (i * bits);
  }
  return word_bytes(packed);
}

std::string group_numbers(const Quantised& q) {
  std::vector<uint32_t> groups(q.group_of.begin(), q.group_of.end());
  return word_bytes(groups);
}

void store_gptq(const IntegerPublisher& publisher, const std::string& base, const Quantised& q, FolderDraft& codes) {
  const int64_t in_word = 32 / publisher.bits;
  const int less = publisher.form == PublisherForm::gptq ? 1 : 0;
  codes.tensors[base + ".qweight"] = {
      "I32", {q.cols / in_word, q.rows}, pack_words(q.cols / in_word * q.rows, publisher.bits, [&](int64_t w, int i) {
        const int64_t col = w / q.rows * in_word + i;
        return q.codes[static_cast<size_t>(w % q.rows * q.cols + col)];
      })};
  codes.tensors[base + ".qzeros"] = {"I32",
                                     {q.groups, q.rows / in_word},
                                     pack_words(q.groups * q.rows / in_word, publisher.bits, [&](int64_t w, int i) {
                                       const int64_t across = q.rows / in_word;
                                       const int64_t row = w % across * in_word + i;
                                       return q.zeros[static_cast<size_t>(row * q.groups + w / across)] - less;
                                     })};
  codes.tensors[base + ".g_idx"] = {"I32", {q.cols}, group_numbers(q)};
}

void store_awq(const std::string& base, const Quantised& q, FolderDraft& codes) {
  constexpr int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
  const int64_t across = q.rows / 8;
  codes.tensors[base + ".qweight"] = {"I32", {q.cols, across}, pack_words(q.cols * across, 4, [&](int64_t w, int i) {
                                        const int64_t row = w % across * 8 + order[i];
                                        return q.codes[static_cast<size_t>(row * q.cols + w / across)];
                                      })};
  codes.tensors[base + ".qzeros"] = {"I32", {q.groups, across}, pack_words(q.groups * across, 4, [&](int64_t w, int i) {
                                       const int64_t row = w % across * 8 + order[i];
                                       return q.zeros[static_cast<size_t>(row * q.groups + w / across)];
                                     })};
}

void store_packed(const IntegerPublisher& publisher, const std::string& name, const Quantised& q, FolderDraft& codes) {
  const int64_t in_word = 32 / publisher.bits;
  const int64_t across = (q.cols + in_word - 1) / in_word;
  codes.tensors[name + "_packed"] = {
      "I32", {q.rows, across}, pack_words(q.rows * across, publisher.bits, [&](int64_t w, int i) {
        const int64_t col = w % across * in_word + i;
        return col < q.cols ? q.codes[static_cast<size_t>(w / across * q.cols + col)] : 0;
      })};
  const int64_t sizes[] = {q.rows, q.cols};
  codes.tensors[name + "_shape"] = {"I64", {2}, std::string(reinterpret_cast<const char*>(sizes), sizeof sizes)};
  if (publisher.scattered) codes.tensors[name + "_g_idx"] = {"I32", {q.cols}, group_numbers(q)};
  if (publisher.symmetric) return;
  const int64_t down = (q.rows + in_word - 1) / in_word;
  codes.tensors[name + "_zero_point"] = {
      "I32", {down, q.groups}, pack_words(down * q.groups, publisher.bits, [&](int64_t w, int i) {
        const int64_t row = w / q.groups * in_word + i;
        return row < q.rows ? q.zeros[static_cast<size_t>(row * q.groups + w % q.groups)] : 0;
      })};
}

void store_plain(const IntegerPublisher& publisher, const std::string& name, const Quantised& q, FolderDraft& codes) {
  std::string bytes;
  for (const int code : q.codes)
    bytes += static_cast<char>(code - 128);
  codes.tensors[name] = {"I8", {q.rows, q.cols}, bytes};
  if (publisher.symmetric) return;
  std::string zeros;
  for (const int zero : q.zeros)
    zeros += static_cast<char>(zero - 128);
  codes.tensors[name + "_zero_point"] = {"I8", {q.rows, q.groups}, zeros};
}

void store_scales(const IntegerPublisher& publisher, const std::string& name, bool by_groups, const Quantised& q,
                  FolderDraft& codes) {
  FolderTensor scales{publisher.scale_dtype, {q.rows, q.groups}, {}};
  if (by_groups) scales.shape = {q.groups, q.rows};
  if (publisher.whole) scales.shape = {1};
  const int64_t count = publisher.whole ? 1 : q.rows * q.groups;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = by_groups ? i % q.rows * q.groups + i / q.rows : i;
    scales.bytes += scale_bytes(publisher.scale_dtype, q.scales[static_cast<size_t>(at)]);
  }
  codes.tensors[name] = std::move(scales);
}

}  // namespace

json::object integers_config(const IntegerPublisher& publisher) {
  const json::value group = publisher.group;
  switch (publisher.form) {
    case PublisherForm::gptq:
    case PublisherForm::gptq_v2: {
      json::object config = {{"quant_method", "gptq"},          {"bits", publisher.bits},     {"group_size", group},
                             {"desc_act", publisher.scattered}, {"sym", publisher.symmetric}, {"damp_percent", 0.1},
                             {"model_file_base_name", "model"}, {"true_sequential", true}};
      if (publisher.form == PublisherForm::gptq_v2) config["checkpoint_format"] = "gptq_v2";
      return config;
    }
    case PublisherForm::awq:
      return {{"quant_method", "awq"}, {"bits", publisher.bits}, {"group_size", group},
              {"zero_point", true},    {"version", "gemm"},      {"modules_to_not_convert", nullptr}};
    case PublisherForm::packed:
    case PublisherForm::plain:
      break;
  }
  const bool by_groups = publisher.group > 0;
  json::object weights = {{"num_bits", publisher.bits},
                          {"type", "int"},
                          {"symmetric", publisher.symmetric},
                          {"strategy", publisher.whole ? "tensor"
                                       : by_groups     ? "group"
                                                       : "channel"},
                          {"group_size", by_groups ? group : json::value(nullptr)},
                          {"actorder", publisher.scattered ? json::value("group") : json::value(nullptr)},
                          {"dynamic", false}};
  return {{"quant_method", "compressed-tensors"},
          {"format", publisher.form == PublisherForm::packed ? "pack-quantized" : "int-quantized"},
          {"ignore", json::array{"lm_head"}},
          {"quantization_status", "compressed"},
          {"config_groups", {{"group_0", {{"targets", json::array{"Linear"}}, {"weights", std::move(weights)}}}}}};
}

void publish_integers(const IntegerPublisher& publisher, const std::string& name, FolderDraft& codes,
                      FolderDraft& numbers) {
  FolderTensor& source = numbers.tensors.at(name);
  const Quantised q = quantise_matrix(publisher, source);
  const std::string base = name.substr(0, name.rfind('.'));
  codes.tensors.erase(name);
  switch (publisher.form) {
    case PublisherForm::gptq:
    case PublisherForm::gptq_v2:
      store_gptq(publisher, base, q, codes);
      break;
    case PublisherForm::awq:
      store_awq(base, q, codes);
      break;
    case PublisherForm::packed:
      store_packed(publisher, name, q, codes);
      break;
    case PublisherForm::plain:
      store_plain(publisher, name, q, codes);
      break;
  }
  const bool by_groups = publisher.form != PublisherForm::packed && publisher.form != PublisherForm::plain;
  store_scales(publisher, by_groups ? base + ".scales" : name + "_scale", by_groups, q, codes);
  source.bytes.clear();
  for (int64_t i = 0; i < q.rows * q.cols; ++i) {
    const auto at = static_cast<size_t>(i / q.cols * q.groups + q.group_of[static_cast<size_t>(i % q.cols)]);
    const float value = static_cast<float>(q.codes[static_cast<size_t>(i)] - q.zeros[at]) * q.scales[at];
    source.bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

IntegerDrafts publish_all_integers(const IntegerPublisher& publisher, const FolderDraft& source) {
  IntegerDrafts drafts{source, source};
  for (const auto& [name, tensor] : source.tensors) {
    const bool projects = name.find("_proj") != std::string::npos || name.find("encoder.layer.") != std::string::npos;
    if (projects && name.ends_with(".weight") && tensor.shape.size() == 2) {
      publish_integers(publisher, name, drafts.codes, drafts.numbers);
    }
  }
  drafts.codes.config["quantization_config"] = integers_config(publisher);
  return drafts;
}

}  // namespace tidemill::test
