// Attention of the scalar kernels, in a file of its own: the plain writing of attention_order.hpp.
#pragma once

#include "tensor/kernels.hpp"

namespace tidemill::tensor::scalar {

void attention_f32(const AttentionCall& call);
void attention_f16(const AttentionCall& call);
void attention_bf16(const AttentionCall& call);
void attention_int8(const AttentionCall& call);
void merge_attention(const AttentionState& state, const AttentionState& later, int64_t queries, int64_t value_dim);
void finish_attention(const AttentionState& state, int64_t queries, int64_t value_dim, bool turned, float* out);
// tanh(x / 2), as exp_constants.hpp has it.
float tanh_of_half(float x);
int32_t turn_head(float* x, int64_t head_dim);
void round_codes(const float* x, int64_t n, float inverse, int8_t* codes);

}  // namespace tidemill::tensor::scalar
