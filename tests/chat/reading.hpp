// What an OutputParser makes of a text that comes in pieces.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.hpp"
#include "chat/format.hpp"
#include "chat/output_parser.hpp"
#include "chat/tools.hpp"

namespace tidemill::chat::test {

struct Call {
  std::string name;
  std::string arguments;
  std::string id;

  bool operator==(const Call&) const = default;
};

struct Reading {
  std::string content;
  std::string reasoning;
  std::vector<Call> calls;
  bool complete = false;
  bool sound = true;  // deltas kept the contract: whole characters, calls in order, id and name once and first

  bool operator==(const Reading&) const = default;

  void add(const Delta& delta) {
    sound = sound && base::utf8::is_valid(delta.content) && base::utf8::is_valid(delta.reasoning);
    content += delta.content;
    reasoning += delta.reasoning;
    for (const CallDelta& call : delta.calls) {
      const auto index = static_cast<size_t>(call.index);
      const bool begins = index == calls.size();
      sound = sound && base::utf8::is_valid(call.arguments) && index + 1 >= calls.size() && index <= calls.size() &&
              begins == !call.name.empty() && begins == !call.id.empty();
      if (begins) calls.push_back({call.name, "", call.id});
      if (index < calls.size()) calls[index].arguments += call.arguments;
    }
  }
};

class Numbers {
 public:
  uint64_t operator()() { return state_ = state_ * 6364136223846793005U + 1442695040888963407U; }

 private:
  uint64_t state_ = 1;
};

inline Reading read(const Format& format, std::span<const Tool> tools, Start start,
                    std::span<const std::string_view> pieces) {
  OutputParser parser(format, tools, start, Numbers());
  Reading reading;
  for (const std::string_view piece : pieces) {
    Delta delta;
    parser.feed(piece, delta);
    reading.add(delta);
  }
  Delta delta;
  parser.finish(delta);
  reading.add(delta);
  reading.complete = parser.complete();
  reading.sound = reading.sound && parser.calls() == static_cast<int>(reading.calls.size());
  return reading;
}

inline Reading read(const Format& format, std::span<const Tool> tools, Start start, std::string_view text) {
  return read(format, tools, start, std::span(&text, 1));
}

// Where `text` may be cut: before each character but the first.
inline std::vector<size_t> cuts(std::string_view text) {
  std::vector<size_t> places;
  for (size_t at = 1; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U) places.push_back(at);
  }
  return places;
}

inline std::vector<std::string_view> cut_at(std::string_view text, std::span<const size_t> places) {
  std::vector<std::string_view> pieces;
  size_t begin = 0;
  for (const size_t place : places) {
    pieces.push_back(text.substr(begin, place - begin));
    begin = place;
  }
  pieces.push_back(text.substr(begin));
  return pieces;
}

}  // namespace tidemill::chat::test
