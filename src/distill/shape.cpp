#include "distill/shape.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include <fmt/format.h>

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr int64_t kMostWidth = 8192;
constexpr int64_t kMostLayers = 128;

struct NamedShape {
  std::string_view name;
  StudentShape shape;
};

constexpr std::array<NamedShape, 5> kShapes = {{
    {"micro", {64, 2, 2, 1, 192}},
    {"mini", {96, 4, 3, 1, 288}},
    {"small", {128, 4, 4, 2, 384}},
    {"medium", {256, 6, 8, 4, 768}},
    {"large", {512, 8, 16, 8, 1536}},
}};

Error malformed(std::string_view text, std::string_view why) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("'{}' is no shape of a student: {}. It is {}, a share of the teacher's parameters such as "
                           "23%, or WIDTH:LAYERS:HEADS[/KV_HEADS][:FEED_FORWARD] such as 128:4:4/2:384",
                           text, why, shape_names()))
      .with_param("student");
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Heads of 32, or of what a narrower width has.
StudentShape usual(int64_t width, int64_t layers) {
  const int64_t heads = std::max<int64_t>(1, width / 32);
  return {width, layers, heads, heads % 2 == 0 ? heads / 2 : 1, 3 * width};
}

// The widest that is at least as many layers deep as its width has thirty-twos, with as many layers as there is room
// for: models this small gain by width first, and are then mostly embeddings.
std::optional<StudentShape> largest(int64_t limit, int64_t vocabulary) {
  std::optional<StudentShape> best;
  for (int64_t width = 32; width <= kMostWidth; width += 32) {
    const StudentShape one = usual(width, 1);
    const int64_t layers = std::min(kMostLayers, (limit - one.parameters(vocabulary)) / one.layer_parameters() + 1);
    if (one.parameters(vocabulary) > limit || layers < std::max<int64_t>(2, width / 32)) continue;
    best = usual(width, layers);
  }
  return best;
}

Result<StudentShape> parse_share(std::string_view text, int64_t vocabulary, int64_t teacher_parameters) {
  double share = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size() - 1, share);
  if (fault != std::errc() || end != text.data() + text.size() - 1 || !(share > 0) || share > 100) {
    return malformed(text, "the share is more than 0 % and at most 100 %");
  }
  if (teacher_parameters == 0) return malformed(text, "there is no teacher to have a share of");
  const auto limit = static_cast<int64_t>(std::floor(share / 100 * static_cast<double>(teacher_parameters)));
  const std::optional<StudentShape> shape = largest(limit, vocabulary);
  if (shape) return *shape;
  return malformed(text, fmt::format("{} parameters hold no student with this vocabulary of {}, whose embeddings alone "
                                     "take {} at a width of 32",
                                     limit, vocabulary, 32 * vocabulary));
}

}  // namespace

int64_t StudentShape::layer_parameters() const {
  const int64_t kv = kv_heads * head_dim();
  return 2 * width * width + 2 * kv * width + 3 * width * feed_forward + 2 * width;
}

int64_t StudentShape::parameters(int64_t vocabulary) const {
  return vocabulary * width + layers * layer_parameters() + width;
}

std::string StudentShape::to_string() const {
  return fmt::format("{}:{}:{}/{}:{}", width, layers, heads, kv_heads, feed_forward);
}

std::string shape_names() {
  std::string names;
  for (const NamedShape& known : kShapes)
    names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", known.name, known.shape.to_string());
  return names;
}

Result<StudentShape> parse_shape(std::string_view text, int64_t vocabulary, int64_t teacher_parameters) {
  for (const NamedShape& known : kShapes) {
    if (known.name == text) return known.shape;
  }
  if (text.ends_with('%')) return parse_share(text, vocabulary, teacher_parameters);
  const std::vector<std::string_view> parts = split(text, ':');
  if (parts.size() < 3 || parts.size() > 4) return malformed(text, fmt::format("it has {} parts", parts.size()));
  const std::vector<std::string_view> heads = split(parts[2], '/');
  if (heads.size() > 2) return malformed(text, "there is more than one '/'");
  std::vector<std::string_view> spelt = {parts[0], parts[1], heads.front(), heads.back()};
  if (parts.size() == 4) spelt.push_back(parts[3]);
  std::vector<int64_t> numbers;
  for (const std::string_view part : spelt) {
    const std::optional<int64_t> value = number(part);
    if (!value) return malformed(text, fmt::format("'{}' is no number of at least 1", part));
    numbers.push_back(*value);
  }
  const StudentShape shape{numbers[0], numbers[1], numbers[2], numbers[3],
                           parts.size() == 4 ? numbers[4] : 3 * numbers[0]};
  if (shape.width % 32 != 0 || shape.width > kMostWidth) {
    return malformed(text, fmt::format("the width is a multiple of 32 up to {}", kMostWidth));
  }
  if (shape.layers > kMostLayers) return malformed(text, fmt::format("there are at most {} layers", kMostLayers));
  if (shape.feed_forward % 32 != 0 || shape.feed_forward > 8 * kMostWidth) {
    return malformed(text, fmt::format("the feed-forward width is a multiple of 32 up to {}", 8 * kMostWidth));
  }
  if (shape.width % (2 * shape.heads) != 0) {
    return malformed(text, fmt::format("{} heads do not share a width of {} in even parts", shape.heads, shape.width));
  }
  if (shape.heads % shape.kv_heads != 0) {
    return malformed(text, fmt::format("{} heads cannot share {} KV heads evenly", shape.heads, shape.kv_heads));
  }
  return shape;
}

}  // namespace tidemill::distill
