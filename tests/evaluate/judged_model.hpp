// Subjects for tests, and what a plain forward pass says of the same tokens.
#pragma once

#include <cmath>
#include <filesystem>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "evaluate/subject.hpp"
#include "model/checkpoint.hpp"
#include "model/runner.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::test {

// With its device, which must outlive it. Null where loading fails, which is a failure of the test.
struct Judged {
  std::unique_ptr<tensor::Device> device;
  std::unique_ptr<evaluate::Subject> subject;
};

// Keys and values are kept as they are.
inline evaluate::SubjectOptions exact() {
  evaluate::SubjectOptions options;
  options.kv_type = tensor::KvType::f32;
  return options;
}

inline Judged judged(const std::filesystem::path& path, evaluate::SubjectOptions options) {
  Judged judged;
  judged.device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  const auto file = model::Checkpoint::open(path);
  if (!file) {
    ADD_FAILURE() << file.error().to_string();
    return judged;
  }
  auto subject = evaluate::Subject::load(*file, *judged.device, options);
  if (!subject) {
    ADD_FAILURE() << subject.error().to_string();
    return judged;
  }
  judged.subject = std::make_unique<evaluate::Subject>(std::move(*subject));
  return judged;
}

// log p of each of tokens[from..], each behind all before it, in one forward pass.
inline std::vector<double> log_probabilities(const std::filesystem::path& path, std::span<const model::Token> tokens,
                                             size_t from) {
  Loaded loaded =
      load(path, tensor::KvType::f32, static_cast<int64_t>(tokens.size()), 1, static_cast<int64_t>(tokens.size()));
  std::vector<double> result;
  if (loaded.cache == nullptr) return result;
  const auto logits = Sequence(loaded).append(tokens.first(tokens.size() - 1));
  for (size_t i = from; i < tokens.size(); ++i) {
    const std::vector<float>& row = logits[i - 1];
    double sum = 0;
    for (const float logit : row)
      sum += std::exp(static_cast<double>(logit));
    result.push_back(row[static_cast<size_t>(tokens[i])] - std::log(sum));
  }
  return result;
}

}  // namespace tidemill::test
