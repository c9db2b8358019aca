// Windows to learn from: of a text alone, or with what a teacher expects behind each token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/result.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::distill {

using text::Token;

// How a text is cut: window i reads `length` tokens, of which the first is the token that the model puts before texts,
// if it has one, and knows what follows each: length + 1 tokens in all. Every token of the text is predicted once, but
// for the first where nothing stands before it, and those behind the last whole window.
class TextWindows {
 public:
  // Both spans must outlive this. `lead` is empty or one token.
  TextWindows(std::span<const Token> text, std::span<const Token> lead, int64_t length);

  int64_t length() const { return length_; }
  int64_t count() const { return count_; }
  // Writes length + 1 tokens.
  void read(int64_t index, std::span<Token> out) const;

 private:
  std::span<const Token> text_;
  std::span<const Token> lead_;
  int64_t length_;
  int64_t count_;
};

// What the teacher expects behind the tokens of one window: of each, the `kept` most likely next tokens, the likeliest
// first, and their probabilities.
struct Expectations {
  std::vector<int32_t> tokens;       // [length][kept]
  std::vector<float> probabilities;  // [length][kept]
};

class Lessons {
 public:
  virtual ~Lessons() = default;
  virtual int64_t length() const = 0;
  virtual int64_t count() const = 0;
  virtual int64_t kept() const = 0;  // 0: there is no teacher
  // length() + 1 tokens, and what is expected behind all but the last: [length][kept].
  virtual void read(int64_t index, std::span<Token> tokens, std::span<int32_t> expected,
                    std::span<float> probabilities) const = 0;
};

// Of a text alone.
class TextLessons final : public Lessons {
 public:
  explicit TextLessons(TextWindows windows) : windows_(windows) {}
  int64_t length() const override { return windows_.length(); }
  int64_t count() const override { return windows_.count(); }
  int64_t kept() const override { return 0; }
  void read(int64_t index, std::span<Token> tokens, std::span<int32_t> expected,
            std::span<float> probabilities) const override;

 private:
  TextWindows windows_;
};

// A file of windows with expectations: reading a text with a large teacher takes longer than learning from it once, and
// what it has said is kept.
struct LessonFormat {
  int64_t length = 0;
  int64_t kept = 0;
  int64_t count = 0;
  uint64_t fingerprint = 0;  // of the text, the teacher and how it was asked

  std::string header() const;
  size_t record_bytes() const;
  // One window: tokens as int32, expected tokens as int32, probabilities as F16.
  std::string record(std::span<const Token> tokens, const Expectations& expectations) const;

  friend bool operator==(const LessonFormat&, const LessonFormat&) = default;
};

class LessonFile final : public Lessons {
 public:
  // `not_found` where there is none; `invalid_argument` where it is of another format, text or teacher, or none at all.
  static base::Result<std::unique_ptr<LessonFile>> open(const std::filesystem::path& path, const LessonFormat& format);

  int64_t length() const override { return format_.length; }
  int64_t count() const override { return format_.count; }
  int64_t kept() const override { return format_.kept; }
  void read(int64_t index, std::span<Token> tokens, std::span<int32_t> expected,
            std::span<float> probabilities) const override;

 private:
  LessonFile(base::MappedFile file, const LessonFormat& format);

  base::MappedFile file_;
  LessonFormat format_;
  size_t header_bytes_;
};

}  // namespace tidemill::distill
