// How large a student is: a Llama with tied embeddings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::distill {

struct StudentShape {
  int64_t width = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t feed_forward = 0;

  int64_t head_dim() const { return width / heads; }
  // Weights of one layer, and of all with the embeddings, which are the output matrix as well.
  int64_t layer_parameters() const;
  int64_t parameters(int64_t vocabulary) const;
  // As parse_shape() takes it: "128:4:4/2:384".
  std::string to_string() const;

  friend bool operator==(const StudentShape&, const StudentShape&) = default;
};

// What `text` says: the name of a shape (shape_names()), WIDTH:LAYERS:HEADS[/KV_HEADS][:FEED_FORWARD], of which the
// last is three times the width where it is left out, or a share such as "23%": the largest shape with at most that
// share of `teacher_parameters`, which are 0 where there is no teacher. Widths are multiples of 32, heads divide the
// width into pairs, and KV heads divide the heads. `invalid_argument` says what is wrong and what would be right.
base::Result<StudentShape> parse_shape(std::string_view text, int64_t vocabulary, int64_t teacher_parameters);

// "micro (64:2:2/1:192), mini (...), ...", for help and errors.
std::string shape_names();

}  // namespace tidemill::distill
