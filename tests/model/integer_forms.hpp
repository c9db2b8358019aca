// Matrices as publishers of integers store them, written for tests without the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "folder_writer.hpp"

namespace tidemill::test {

struct IntegerPublisher {
  enum class Form : uint8_t { gptq, gptq_v2, awq, packed, plain };
  const char* name;
  Form form;
  int bits;
  int64_t group;  // -1: a row
  bool symmetric;
  const char* scale_dtype;
  bool scattered = false;  // columns are of groups in no order (act-order)
  bool whole = false;      // one scale for the matrix
};

// The usual ones.
inline constexpr IntegerPublisher kGptq = {"gptq", IntegerPublisher::Form::gptq, 4, 128, true, "F16"};
inline constexpr IntegerPublisher kAwq = {"awq", IntegerPublisher::Form::awq, 4, 128, false, "F16"};
inline constexpr IntegerPublisher kPacked = {"packed", IntegerPublisher::Form::packed, 4, 32, true, "BF16"};
inline constexpr IntegerPublisher kPlain = {"plain", IntegerPublisher::Form::plain, 8, -1, true, "BF16"};

// quantization_config of config.json.
base::json::object integers_config(const IntegerPublisher& publisher);

// The matrix `name` of `numbers`, F32, is taken out of `codes` and put there as the publisher stores it; `numbers` has
// what it stands for, in F32, which holds it exactly. Symmetric codes have the extremes of their range.
void publish_integers(const IntegerPublisher& publisher, const std::string& name, FolderDraft& codes,
                      FolderDraft& numbers);

// All projections of decoders (and encoders).
struct IntegerDrafts {
  FolderDraft codes;
  FolderDraft numbers;
};
IntegerDrafts publish_all_integers(const IntegerPublisher& publisher, const FolderDraft& source);

}  // namespace tidemill::test
