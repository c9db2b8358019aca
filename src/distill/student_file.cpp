#include "distill/student_file.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/memory.hpp"
#include "model/file_type.hpp"
#include "model/gguf_writer.hpp"
#include "model/load.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

namespace {

void add_metadata(model::GgufWriter& writer, const StudentPlan& plan, const model::Metadata& vocabulary,
                  const StudentFacts& facts) {
  writer.add_string("general.architecture", "llama");
  writer.add_string("general.type", "model");
  writer.add_string("general.name", facts.name);
  writer.add_string("general.description", facts.description);
  writer.add_u32("general.file_type", model::file_type_number(facts.type));
  const auto count = [&](std::string_view key, int64_t value) {
    writer.add_u32(fmt::format("llama.{}", key), static_cast<uint32_t>(value));
  };
  count("vocab_size", plan.vocabulary);
  count("context_length", plan.window);
  count("embedding_length", plan.shape.width);
  count("block_count", plan.shape.layers);
  count("feed_forward_length", plan.shape.feed_forward);
  count("attention.head_count", plan.shape.heads);
  count("attention.head_count_kv", plan.shape.kv_heads);
  count("rope.dimension_count", plan.shape.head_dim());
  writer.add_f32("llama.attention.layer_norm_rms_epsilon", plan.rms_epsilon);
  writer.add_f32("llama.rope.freq_base", static_cast<float>(plan.rope_base));
  for (const model::GgufEntry& entry : vocabulary.metadata()) {
    if (entry.key.starts_with("tokenizer.") || entry.key.starts_with("tidemill.tokenizer.")) writer.add(entry);
  }
}

DType type_of(const NamedArray& array, const StudentFacts& facts) {
  return array.shape.size() > 1 ? facts.type : DType::f32;
}

}  // namespace

Result<void> write_student(const std::filesystem::path& path, const StudentPlan& plan,
                           std::span<const NamedArray> weights, const model::Metadata& vocabulary,
                           const StudentFacts& facts) {
  model::GgufWriter writer;
  add_metadata(writer, plan, vocabulary, facts);
  for (const NamedArray& array : weights)
    writer.declare_tensor(array.name, type_of(array, facts), array.shape);
  TM_CHECK(writer.begin(path));
  std::vector<std::byte> bytes;
  std::vector<float> back;
  for (const NamedArray& array : weights) {
    const DType type = type_of(array, facts);
    const auto elements = static_cast<int64_t>(array.values.size());
    bytes.resize(static_cast<size_t>(tensor::row_bytes(type, elements)));
    tensor::quantize(type, array.values.data(), elements, bytes.data());
    back.resize(array.values.size());
    tensor::dequantize(type, bytes.data(), elements, back.data());
    for (const float value : back) {
      if (std::isfinite(value)) continue;
      return Error(ErrorCode::corrupt, fmt::format("the student's tensor '{}' holds weights that {} cannot: it has "
                                                   "diverged, or wants --type f32",
                                                   array.name, tensor::info(type).name));
    }
    TM_CHECK(writer.write(bytes));
  }
  return writer.finish();
}

Result<std::vector<NamedArray>> read_student(const model::Checkpoint& file, const StudentPlan& plan,
                                             std::span<const NamedArray> expected) {
  TM_TRY(const model::HyperParameters hyper, model::read_any_hyper_parameters(file));
  const auto other = [&](const std::string& what) {
    return Error(ErrorCode::invalid_argument, fmt::format("cannot go on from '{}': {}", file.path().string(), what));
  };
  const StudentShape shape = {hyper.width, hyper.layers, hyper.heads, hyper.kv_heads, hyper.feed_forward};
  if (hyper.architecture != "llama")
    return other(fmt::format("it is a '{}', and a student is a 'llama'", hyper.architecture));
  if (shape != plan.shape || hyper.vocabulary != plan.vocabulary) {
    return other(fmt::format("it is {} with a vocabulary of {}, and the student is {} with one of {}",
                             shape.to_string(), hyper.vocabulary, plan.shape.to_string(), plan.vocabulary));
  }
  TM_TRY(const double rope_base, file.get_float_or("llama.rope.freq_base", 10000));
  if (hyper.rms_epsilon != plan.rms_epsilon || rope_base != plan.rope_base) {
    return other(fmt::format("its norms' epsilon is {} and its positions' base {}, and the student's are {} and {}",
                             hyper.rms_epsilon, rope_base, plan.rms_epsilon, plan.rope_base));
  }
  std::vector<NamedArray> weights;
  base::Buffer scratch;
  for (const NamedArray& array : expected) {
    const model::GgufTensor* tensor = file.find_tensor(array.name);
    const auto rank = static_cast<int>(array.shape.size());
    if (tensor == nullptr || tensor->panels || tensor->rank != rank ||
        !std::equal(array.shape.begin(), array.shape.end(), tensor->shape.begin()))
      return other(fmt::format("its tensor '{}' is missing, packed or of another shape", array.name));
    TM_TRY(const std::span<const std::byte> bytes, file.read(*tensor, scratch));
    NamedArray& read =
        weights.emplace_back(NamedArray{array.name, array.shape, std::vector<float>(array.values.size())});
    tensor::dequantize(tensor->type, bytes.data(), tensor->elements(), read.values.data());
    if (!std::ranges::all_of(read.values, [](float value) { return std::isfinite(value); }))
      return file.error(ErrorCode::corrupt, fmt::format("tensor '{}' has a weight that is not finite", array.name));
  }
  if (file.tensors().size() != expected.size()) {
    return other(
        fmt::format("it has {} tensors, and a student has {}: one with an output matrix of its own, biases or "
                    "factors of positions has more",
                    file.tensors().size(), expected.size()));
  }
  return weights;
}

}  // namespace tidemill::distill
