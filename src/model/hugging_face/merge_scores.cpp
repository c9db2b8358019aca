#include "model/hugging_face/merge_scores.hpp"

#include <cstdint>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

// Real pieces have up to 200 bytes. Every way to cut one in two is looked at.
constexpr size_t kMaxPieceBytes = 512;
// What that looks at in all pieces together: each byte of one once for each way to cut it. Real vocabularies take a
// tenth of this.
constexpr size_t kMostCutBytes = size_t{1} << 29;

using TextPieces = std::unordered_map<std::string_view, size_t>;

// The ways to put the piece together from two pieces of text.
size_t ways(std::string_view piece, const TextPieces& known) {
  size_t count = 0;
  for (size_t at = base::utf8::decode(piece).length; at < piece.size();
       at += base::utf8::decode(piece.substr(at)).length) {
    if (known.contains(piece.substr(0, at)) && known.contains(piece.substr(at))) ++count;
  }
  return count;
}

}  // namespace

std::optional<std::vector<float>> merge_scores(std::span<const std::string> pieces, const std::vector<bool>& text,
                                               std::span<const std::pair<std::string, std::string>> merges,
                                               std::string& fault) {
  TextPieces known;
  TextPieces others;
  for (size_t i = 0; i < pieces.size(); ++i)
    (text[i] ? known : others).emplace(pieces[i], i);
  std::vector<float> scores(pieces.size(), 0.0F);
  std::vector<size_t> listed(pieces.size(), 0);  // merges that make the piece
  float next = -1;
  size_t previous = pieces.size();
  for (const auto& [left, right] : merges) {
    const std::string whole = left + right;
    // Text never becomes a token of another kind, though the lists say how "</" and "s>" would.
    if (!known.contains(left) || !known.contains(right) || others.contains(whole)) continue;
    const auto made = known.find(whole);
    if (made == known.end()) {
      fault =
          fmt::format("'{}' and '{}' merge, but '{}' is no token", printable(left), printable(right), printable(whole));
      return std::nullopt;
    }
    const size_t piece = made->second;
    if (piece != previous) {
      if (listed[piece] > 0) {
        fault = fmt::format("the merges that make '{}' do not follow each other", printable(pieces[piece]));
        return std::nullopt;
      }
      scores[piece] = next--;
      previous = piece;
    }
    ++listed[piece];
  }
  size_t cut = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (!text[i] || pieces[i].empty()) continue;
    cut += pieces[i].size() * pieces[i].size();
    if (cut > kMostCutBytes) {
      fault = fmt::format("up to '{}', the squares of its pieces' lengths add up to {} bytes; at most {} are looked at",
                          printable(pieces[i]), cut, kMostCutBytes);
      return std::nullopt;
    }
    if (pieces[i].size() > kMaxPieceBytes) {
      fault = fmt::format("'{}' has {} bytes; pieces have at most {}", printable(pieces[i]), pieces[i].size(),
                          kMaxPieceBytes);
      return std::nullopt;
    }
    if (const size_t possible = ways(pieces[i], known); listed[i] != possible) {
      fault = fmt::format("'{}' can be put together in {} ways, of which {} are listed", printable(pieces[i]), possible,
                          listed[i]);
      return std::nullopt;
    }
    if (listed[i] == 0) scores[i] = next;
  }
  return scores;
}

}  // namespace tidemill::model
