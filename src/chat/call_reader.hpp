// Reads one stretch of output in which calls stand, from the text that announced it on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/format.hpp"
#include "chat/output_writer.hpp"

namespace tidemill::chat {

inline constexpr size_t max_name = 256;  // bytes of a function's or parameter's name, or of an id

// Whether a call of the function of this name, as the format writes it, is read as that.
bool reads_name(const CallSyntax& syntax, std::string_view name);

class CallReader {
 public:
  // `announced`: the text that was read as the beginning of a call; it is content if there is none.
  CallReader(const CallSyntax& syntax, OutputWriter& writer, std::string announced)
      : syntax_(syntax), writer_(writer), raw_(std::move(announced)) {}
  CallReader(const CallReader&) = delete;
  CallReader& operator=(const CallReader&) = delete;
  virtual ~CallReader() = default;

  // False: the stretch is over. refused() is then content, and leftover() is to be read afresh.
  virtual bool take(char byte) = 0;

  // The same when the output ends.
  const std::string& refused() const { return refused_; }
  const std::string& leftover() const { return leftover_; }
  // Writes out what can be when nothing follows; what is neither call nor its ending becomes refused().
  virtual void finish() { refused_ = raw_; }

 protected:
  // There was no call in what is held: it is content, but for its last `unsure` bytes, which are read afresh before
  // `next`.
  bool refuse(size_t unsure) {
    refused_ = raw_.substr(0, raw_.size() - unsure);
    leftover_ = raw_.substr(raw_.size() - unsure);
    raw_.clear();
    return false;
  }
  // What is held belongs to what follows.
  bool leave() {
    leftover_ = std::move(raw_);
    raw_.clear();
    return false;
  }
  bool acceptable(std::string_view name) const {
    return !name.empty() && (!syntax_.known_only || writer_.tool(name) != nullptr);
  }

  const CallSyntax& syntax_;
  OutputWriter& writer_;
  std::string raw_;  // what was read and is not yet certain to be of a call; `take` appends every byte first

 private:
  std::string refused_;
  std::string leftover_;
};

// Tells which of some texts comes, byte by byte.
class Alternatives {
 public:
  // Those that are empty count for nothing. None may begin with another.
  explicit Alternatives(std::vector<std::string_view> texts) : texts_(std::move(texts)) {}

  enum class Step : uint8_t { more, found, none };
  Step take(char byte) {
    seen_ += byte;
    for (const std::string_view text : texts_) {
      if (text.empty() || !text.starts_with(seen_)) continue;
      if (text.size() > seen_.size()) return Step::more;
      found_ = text;
      return Step::found;
    }
    return Step::none;
  }
  std::string_view found() const { return found_; }
  // What was taken so far.
  size_t seen() const { return seen_.size(); }

 private:
  std::vector<std::string_view> texts_;
  std::string seen_;
  std::string_view found_;
};

}  // namespace tidemill::chat
