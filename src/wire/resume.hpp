// Streams that another server can go on with (docs/resume.md): the marks that are written into them as comments for
// that, and the member of a request's body in which they come back.
//
// Pure functions; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// The header that asks for marks, with the value "1".
inline constexpr std::string_view resumable_header = "x-tidemill-resumable";
// The member of the body that asks for a continuation.
inline constexpr std::string_view resume_member = "tidemill_resume";

// What a stream began with, besides its request: "open".
struct StreamOrigin {
  std::string id;  // of the answer
  int64_t created = 0;
  std::optional<int64_t> seed;  // drawn, where the request has none
  std::string model;            // tells models, and arithmetics, apart
  std::string prompt;           // a checksum of the prompts' tokens
};

// Where the writer of a stream stands, beyond what follows from the tokens: "state".
struct StreamState {
  int64_t sequence = 0;       // Answer::sequence
  int64_t cached_tokens = 0;  // of the prompts of choices that have begun
  std::vector<int> ended;     // choices that have ended without a token
};

struct Resume {
  StreamOrigin origin;
  std::optional<StreamState> state;  // none: nothing was marked
  std::vector<TokenIds> tokens;      // by choice
};

// Nothing where the body has no such member. Errors are `invalid_argument` and name the place in it.
base::Result<std::optional<Resume>> parse_resume(std::string_view body);

void append_open_mark(const StreamOrigin& origin, std::string& out);
void append_choice_mark(int choice, const TokenIds& tokens, const StreamState& state, std::string& out);
void append_end_mark(std::string& out);

}  // namespace tidemill::wire
