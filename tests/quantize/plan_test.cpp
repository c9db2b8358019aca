#include "quantize/plan.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::quantize {
namespace {

using base::ErrorCode;
using tensor::DType;

// A checkpoint of tensors without data.
model::Checkpoint checkpoint(std::vector<model::GgufTensor> tensors) {
  return model::Checkpoint::assemble(model::Metadata("model.gguf"), std::move(tensors), {}, nullptr, 3).value();
}

model::GgufTensor tensor_of(std::string_view name, DType type, std::vector<int64_t> shape) {
  model::GgufTensor tensor;
  tensor.name = name;
  tensor.type = type;
  tensor.rank = static_cast<int>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i)
    tensor.shape[i] = shape[i];
  return tensor;
}

TEST(Plan, PatternsMatchWholeNames) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("*", "blk.0.attn_q.weight"));
  EXPECT_TRUE(matches("blk.*.attn_?.weight", "blk.12.attn_q.weight"));
  EXPECT_TRUE(matches("*.ffn_down.*", "blk.0.ffn_down.weight"));
  EXPECT_TRUE(matches("a*b*c", "aXbXbYc"));
  EXPECT_TRUE(matches("**", "x"));
  EXPECT_FALSE(matches("blk.*.attn_?.weight", "blk.12.attn_output.weight"));
  EXPECT_FALSE(matches("attn_q", "blk.0.attn_q.weight"));
  EXPECT_FALSE(matches("", "x"));
  EXPECT_FALSE(matches("a?", "a"));
  EXPECT_FALSE(matches("a*b", "aXc"));
}

TEST(Plan, RulesSayWhatIsWrong) {
  const auto rule = parse_rule("*.attn_*=Q6_K");
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->pattern, "*.attn_*");
  EXPECT_EQ(rule->type, DType::q6_k);
  EXPECT_EQ(parse_rule("x=int8")->type, DType::q8_0);
  EXPECT_SAYS(parse_rule("q6_k").error().to_string(), "'q6_k' is no rule");
  EXPECT_SAYS(parse_rule("=q6_k").error().to_string(), "is no rule");
  EXPECT_SAYS(parse_rule("x=q9").error().to_string(), "'q9' in 'x=q9' is no type: use one of int8, f32");
  EXPECT_EQ(type_from_name("int8"), DType::q8_0);
  EXPECT_FALSE(type_from_name("int4"));
}

TEST(Plan, WhatDoesNotFitBecomesSomethingThatDoes) {
  EXPECT_EQ(fitting_type(DType::q4_k, 512), DType::q4_k);
  EXPECT_EQ(fitting_type(DType::q4_k, 96), DType::q5_0);
  EXPECT_EQ(fitting_type(DType::q6_k, 96), DType::q8_0);
  EXPECT_EQ(fitting_type(DType::q5_k, 96), DType::q5_1);
  EXPECT_EQ(fitting_type(DType::q3_k, 96), DType::iq4_nl);
  EXPECT_EQ(fitting_type(DType::q8_0, 100), DType::f16);
  EXPECT_EQ(fitting_type(DType::q4_k, 100), DType::f16);
  EXPECT_EQ(fitting_type(DType::f32, 100), DType::f32);
  // Never fewer bits than were asked for.
  for (const DType type : tensor::all_dtypes()) {
    const DType fits = fitting_type(type, 96);
    EXPECT_GE(tensor::row_bytes(fits, 768) + 1, tensor::row_bytes(type, 768)) << tensor::info(type).name;
  }
}

TEST(Plan, MatricesChangeAndVectorsStay) {
  const model::Checkpoint source = checkpoint(
      {tensor_of("token_embd.weight", DType::f16, {256, 100}), tensor_of("blk.0.attn_norm.weight", DType::f32, {256}),
       tensor_of("blk.0.attn_q.weight", DType::f32, {256, 256}),
       tensor_of("blk.0.ffn_down.weight", DType::f32, {172, 256}), tensor_of("blk.0.odd.weight", DType::f16, {100, 3}),
       tensor_of("blk.0.experts.weight", DType::f32, {256, 64, 8}),
       tensor_of("blk.0.ffn_gate_inp.weight", DType::f16, {256, 8}),
       tensor_of("position_embd.weight", DType::f32, {256, 512}),
       tensor_of("blk.0.ffn_up_exps.bias", DType::f32, {64, 8})});
  const auto plain = plan_types(source, DType::q4_k, {});
  ASSERT_TRUE(plain);
  EXPECT_EQ(*plain, (std::vector<DType>{DType::q4_k, DType::f32, DType::q4_k, DType::f16, DType::f16, DType::q4_k,
                                        DType::f32, DType::f32, DType::f32}));
  const std::vector<TensorRule> rules = {{"*", DType::q8_0}, {"blk.0.*", DType::f16}, {"*attn_q*", DType::q6_k}};
  const auto ruled = plan_types(source, DType::q4_k, rules);
  ASSERT_TRUE(ruled) << ruled.error().to_string();
  EXPECT_EQ(*ruled, (std::vector<DType>{DType::q8_0, DType::f32, DType::q6_k, DType::f16, DType::f16, DType::f16,
                                        DType::f16, DType::q8_0, DType::f32}));
  const auto unused = plan_types(source, DType::q4_k, std::vector<TensorRule>{{"*attn_norm*", DType::f16}});
  ASSERT_FALSE(unused);
  EXPECT_EQ(unused.error().code(), ErrorCode::invalid_argument);
  EXPECT_SAYS(unused.error().to_string(), "'*attn_norm*' matches no matrix of model.gguf");
  const auto unfit = plan_types(source, DType::q4_k, std::vector<TensorRule>{{"*ffn_down*", DType::q8_0}});
  ASSERT_FALSE(unfit);
  EXPECT_SAYS(unfit.error().to_string(), "rows of 172 elements, which are no whole blocks of Q8_0 (32)");
}

}  // namespace
}  // namespace tidemill::quantize
