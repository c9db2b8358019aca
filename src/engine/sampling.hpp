// How the next token is chosen.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace tidemill::engine {

using Token = int32_t;

// Defaults sample the plain distribution. Validated by Engine::submit, which names the field in OpenAI's words.
//
// The steps, in vLLM's order: logit_bias is added; then the penalties; temperature 0 takes the most likely token (of
// several, the one with the lowest id) and is done; otherwise logits are divided by the temperature, min_p drops tokens
// less likely than min_p times the most likely one, top_k keeps the k most likely, top_p keeps the smallest set of the
// most likely ones that holds that share of what is left, and one of the kept is drawn.
struct Sampling {
  float temperature = 1.0f;           // 0 is greedy; 0 to 2
  int top_k = 0;                      // 0 (or vLLM's -1): off
  float top_p = 1.0f;                 // in (0, 1]
  float min_p = 0.0f;                 // in [0, 1]
  float repetition_penalty = 1.0f;    // over prompt and output, as in Keskar et al. 2019; 0.01 to 100
  float frequency_penalty = 0.0f;     // over the output, OpenAI's definition; -2 to 2
  float presence_penalty = 0.0f;      // likewise
  std::map<Token, float> logit_bias;  // -100 to 100 each
  std::optional<uint64_t> seed;       // the same seed gives the same output; absent: a random one

  bool greedy() const { return temperature < 1e-5f; }  // below that, division would only add rounding (vLLM's bound)
  bool penalised() const { return repetition_penalty != 1.0f || frequency_penalty != 0.0f || presence_penalty != 0.0f; }
};

}  // namespace tidemill::engine
