#include "model/hugging_face/tiktoken_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "model/hugging_face/base64.hpp"
#include "model/hugging_face/text_steps.hpp"
#include "model/metadata.hpp"
#include "text/merge.hpp"
#include "text/text_encoder.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr size_t kMaxRankedBytes = size_t{32} << 20;
// Of the file, and of the squares of tokens' lengths together: what finding their merges costs. Kimi K2's take a
// twentieth of it.
constexpr size_t kMostSquares = size_t{1} << 29;
constexpr int64_t kSpecialTokens = 256;
constexpr std::array<std::string_view, 2> kKnownCode = {"tokenization_kimi.TikTokenTokenizer",
                                                        "tokenization_moonshot.TikTokenTokenizer"};

// Bytes by rank.
class RankedTokens {
 public:
  RankedTokens(RankedTokens&&) = default;  // what ranks_ points to stays where it is
  RankedTokens& operator=(RankedTokens&&) = default;

  static Result<RankedTokens> read(const std::filesystem::path& path) {
    TM_TRY(const std::string text, base::read_regular_file(path, kMaxRankedBytes));
    RankedTokens tokens;
    std::vector<std::pair<int64_t, std::string>> lines;
    size_t squares = 0;
    for (size_t begin = 0, number = 1; begin < text.size(); ++number) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      std::string_view line = std::string_view(text).substr(begin, end - begin);
      begin = end + 1;
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty()) continue;
      auto parsed = parse(line);
      if (!parsed) {
        return Error(ErrorCode::corrupt, fmt::format("{}: line {} is '{}'; expected a token's bytes in base64, a space "
                                                     "and its rank",
                                                     path.string(), number, printable(line)));
      }
      squares += parsed->second.size() * parsed->second.size();
      if (squares > kMostSquares) {
        return Error(
            ErrorCode::unsupported,
            fmt::format("{}: up to line {}, the squares of the tokens' lengths in bytes add up to {}; supported "
                        "are at most {}",
                        path.string(), number, squares, kMostSquares));
      }
      lines.push_back(std::move(*parsed));
    }
    TM_CHECK(tokens.place(std::move(lines), path));
    return tokens;
  }

  std::span<const std::string> bytes() const { return bytes_; }

  // Where the two parts meet that merge into the token at last; none where no merges make it.
  std::optional<size_t> last_merge(std::string_view token) {
    symbols_.clear();
    for (uint32_t i = 0; i < token.size(); ++i)
      symbols_.push_back({i, i + 1, rank_of(token.substr(i, 1))});
    merger_.merge(symbols_, [&](const text::Symbol& left, const text::Symbol& right) {
      const size_t length = right.end - left.begin;
      const int32_t rank = length == token.size() ? -1 : rank_of(token.substr(left.begin, length));
      return text::Merge{static_cast<uint32_t>(rank), rank};
    });
    return symbols_.size() == 2 ? std::optional<size_t>(symbols_.front().end) : std::nullopt;
  }

 private:
  RankedTokens() = default;

  // A line's rank and bytes.
  static std::optional<std::pair<int64_t, std::string>> parse(std::string_view line) {
    const size_t space = line.find(' ');
    if (space == line.npos) return std::nullopt;
    auto bytes = base64_bytes(line.substr(0, space));
    const std::string_view number = line.substr(space + 1);
    int64_t rank = -1;
    const auto [stop, failed] = std::from_chars(number.data(), number.data() + number.size(), rank);
    const bool whole = failed == std::errc() && stop == number.data() + number.size() && rank >= 0;
    if (!whole || !bytes || bytes->empty()) return std::nullopt;
    return std::pair(rank, std::move(*bytes));
  }

  Result<void> place(std::vector<std::pair<int64_t, std::string>> lines, const std::filesystem::path& path) {
    std::sort(lines.begin(), lines.end());
    bytes_.reserve(lines.size());
    for (auto& [rank, bytes] : lines) {
      if (rank != static_cast<int64_t>(bytes_.size())) {
        return Error(ErrorCode::corrupt, fmt::format("{}: there are {} tokens, but none of the rank {}, or two; "
                                                     "expected each from 0 on once",
                                                     path.string(), lines.size(),
                                                     std::min<int64_t>(rank, static_cast<int64_t>(bytes_.size()))));
      }
      bytes_.push_back(std::move(bytes));
    }
    for (size_t rank = 0; rank < bytes_.size(); ++rank) {
      if (ranks_.emplace(bytes_[rank], static_cast<int32_t>(rank)).second) continue;
      return Error(ErrorCode::corrupt, fmt::format("{}: the tokens of the ranks {} and {} are the same", path.string(),
                                                   ranks_.at(bytes_[rank]), rank));
    }
    // Text that no longer token has is made of them; a byte without one would be left out of it.
    for (int byte = 0; byte < 256; ++byte) {
      const char alone = static_cast<char>(byte);
      if (rank_of(std::string_view(&alone, 1)) >= 0) continue;
      return Error(ErrorCode::corrupt, fmt::format("{}: no token is the byte 0x{:02X} by itself; expected one for each "
                                                   "of the 256 bytes, without which text would be lost",
                                                   path.string(), byte));
    }
    return {};
  }

  int32_t rank_of(std::string_view bytes) const {
    const auto found = ranks_.find(bytes);
    return found == ranks_.end() ? -1 : found->second;
  }

  std::vector<std::string> bytes_;
  std::unordered_map<std::string_view, int32_t> ranks_;  // of bytes_
  std::vector<text::Symbol> symbols_;
  text::Merger merger_;
};

// That the code beside the file is known to do what is done here.
Result<void> check_code(const JsonMembers& names) {
  TM_TRY(const JsonMembers map, names.members("auto_map"));
  const json::value* code = map.find("AutoTokenizer");
  if (code != nullptr && code->is_array() && !code->get_array().empty()) code = &code->get_array().front();
  if (code != nullptr && code->is_string()) {
    const std::string_view name = code->get_string();
    // "REPOSITORY--" may go before.
    const bool known = std::any_of(kKnownCode.begin(), kKnownCode.end(), [name](std::string_view one) {
      return name == one || name.ends_with(fmt::format("--{}", one));
    });
    if (known) return {};
  }
  return names.error(
      ErrorCode::unsupported,
      fmt::format("'auto_map.AutoTokenizer' is {}, and the code that it names says how the tokens of "
                  "'tiktoken.model' are used; known are {}",
                  code == nullptr ? "absent" : printable(json::serialize(*code)), fmt::join(kKnownCode, " and ")));
}

// "added_tokens" of tokenizer.json: those that are named, and up to the last of them those that are not.
Result<json::array> special_tokens(const JsonMembers& names, int64_t first) {
  TM_TRY(const JsonMembers named, names.members("added_tokens_decoder"));
  std::map<int64_t, json::object> tokens;
  const json::object none;
  for (const auto& entry : named.exists() ? named.object() : none) {
    const std::string_view key = entry.key();
    int64_t id = -1;
    const auto [stop, failed] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool whole = failed == std::errc() && stop == key.data() + key.size();
    if (!whole || id < first || id >= first + kSpecialTokens) {
      return names.error(
          ErrorCode::corrupt,
          fmt::format("'{}' is no id of a special token; 'tiktoken.model' has {} tokens, and special ones "
                      "are {} to {}",
                      printable(named.name(key)), first, first, first + kSpecialTokens - 1));
    }
    TM_TRY(const JsonMembers token, named.members(key));
    if (!token.exists()) return named.wrong(key, "an object");
    tokens[id] = token.object();
  }
  json::array all;
  const int64_t past = tokens.empty() ? first : tokens.rbegin()->first + 1;
  for (int64_t id = first; id < past; ++id) {
    json::object token = {{"content", fmt::format("<|reserved_token_{}|>", id)}, {"special", true}};
    if (const auto name = tokens.find(id); name != tokens.end()) token = name->second;
    token["id"] = id;
    all.push_back(std::move(token));
  }
  return all;
}

json::object kimi_steps() {
  json::object words = {
      {"type", "Split"}, {"pattern", {{"Regex", kimi_expression()}}}, {"behavior", "Isolated"}, {"invert", false}};
  json::object bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return {{"type", "Sequence"}, {"pretokenizers", json::array{std::move(words), std::move(bytes)}}};
}

}  // namespace

Result<JsonMembers> read_tiktoken(const std::filesystem::path& path, const JsonMembers& names) {
  TM_CHECK(check_code(names));
  TM_TRY(RankedTokens tokens, RankedTokens::read(path));
  json::object vocabulary;
  json::array merges;
  vocabulary.reserve(tokens.bytes().size());
  for (const std::string& bytes : tokens.bytes()) {
    vocabulary.emplace(text::bpe_piece(bytes), static_cast<int64_t>(vocabulary.size()));
    const auto meet = tokens.last_merge(bytes);
    if (!meet) continue;
    const std::string_view all = bytes;
    merges.push_back(
        json::string(fmt::format("{} {}", text::bpe_piece(all.substr(0, *meet)), text::bpe_piece(all.substr(*meet)))));
  }
  const auto ranked = static_cast<int64_t>(vocabulary.size());
  TM_TRY(json::array added, special_tokens(names, ranked));
  json::object model = {{"type", "BPE"}, {"ignore_merges", true}};
  model["vocab"] = std::move(vocabulary);
  model["merges"] = std::move(merges);
  json::object root = {{"pre_tokenizer", kimi_steps()}};
  root["added_tokens"] = std::move(added);
  root["model"] = std::move(model);
  return JsonMembers::of(std::move(root), path);
}

}  // namespace tidemill::model
