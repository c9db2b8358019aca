// The table of an instruction set with vectors, from its vector type S; see vector_linear.hpp for why all of this has
// internal linkage.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/vector_attention.hpp"
#include "tensor/vector_attention_kv.hpp"
#include "tensor/vector_encoder_rows.hpp"
#include "tensor/vector_formats.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_rows.hpp"
#include "tensor/vector_tiles.hpp"
#include "tensor/vector_weight_only.hpp"

namespace tidemill::tensor {
namespace {

template <class S>
constexpr Kernels make_kernels(Isa isa) {
  return {
      .isa = isa,
      .narrow_bytes = 1,
      .wide_bytes = S::kCodeBytes * S::kWidePlanes,
      .quantize_row = quantize_row<S>,
      .rounds = {},
      .round_row = nullptr,
      .linear = {linear_plain<S, OneByOne<LoadF32<S>>>, linear_plain<S, OneByOne<LoadF16<S>>>,
                 linear_plain<S, Bf16Pairs<S>>, linear_quantized<S, TilesQ8<S>>, linear_quantized<S, TilesQ4<S>>,
                 linear_quantized<S, TilesQ4K<S>>, linear_quantized<S, TilesQ6K<S>>, linear_quantized<S, TilesQ41<S>>,
                 linear_quantized<S, TilesQ50<S>>, linear_quantized<S, TilesQ51<S>>, linear_quantized<S, TilesQ2K<S>>,
                 linear_quantized<S, TilesQ3K<S>>, linear_quantized<S, TilesQ5K<S>>, linear_quantized<S, TilesIq4Nl<S>>,
                 linear_quantized<S, TilesIq4Xs<S>>, linear_quantized<S, TilesMxfp4<S>>},
      .linear_f32 = {linear_plain<S, OneByOne<LoadF32<S>>>, linear_plain<S, OneByOne<LoadF16<S>>>,
                     linear_plain<S, Bf16Pairs<S>>, linear_weight_only<S, FormatQ8<S>>,
                     linear_weight_only<S, FormatQ4<S>>, linear_weight_only<S, FormatQ4K<S>>,
                     linear_weight_only<S, FormatQ6K<S>>, linear_weight_only<S, FormatQ41<S>>,
                     linear_weight_only<S, FormatQ50<S>>, linear_weight_only<S, FormatQ51<S>>,
                     linear_weight_only<S, FormatQ2K<S>>, linear_weight_only<S, FormatQ3K<S>>,
                     linear_weight_only<S, FormatQ5K<S>>, linear_weight_only<S, FormatIq4Nl<S>>,
                     linear_weight_only<S, FormatIq4Xs<S>>, linear_weight_only<S, FormatMxfp4<S>>},
      .inverse_rms = inverse_rms<S>,
      .normalize = normalize<S>,
      .silu_multiply = silu_multiply<S>,
      .gelu_multiply = gelu_multiply<S>,
      .clamped_silu_multiply = clamped_silu_multiply<S>,
      .soft_cap = soft_cap_row<S>,
      .exp = exp_row<S>,
      .layer_norm = layer_norm<S>,
      .gelu = gelu<S>,
      .f32_to_f16 = convert_to_f16<S>,
      .attention = {attention<S, PlainKv<S, LoadF32<S>>>, attention<S, PlainKv<S, LoadF16<S>>>,
                    attention<S, PlainKv<S, LoadBf16<S>>>, attention<S, Int8Kv<S>>},
      .merge_attention = merge_attention<S>,
      .finish_attention = finish_attention<S>,
      .turn_head = turn_head<S>,
      .round_codes = round_codes<S>,
  };
}

}  // namespace
}  // namespace tidemill::tensor
