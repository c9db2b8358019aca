// Byte-level BPE as GPT-2 introduced it (Radford et al. 2019): text is cut into words, each word starts as its bytes,
// and neighbours merge in the order in which the vocabulary's merges were learnt. Pieces are written with a printable
// character for every byte.
#include <array>
#include <bit>
#include <deque>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "text/characters.hpp"
#include "text/merge.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/text_encoder.hpp"

namespace tidemill::text {
namespace {

// GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the other 68 for U+0100 and up, in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      base::utf8::append(written_[byte], character);
      byte_of_[character] = static_cast<int16_t>(byte);
    }
  }

  const std::string& written(uint8_t byte) const { return written_[byte]; }
  // -1 for a character outside the alphabet.
  int byte_of(char32_t character) const { return character < byte_of_.size() ? byte_of_[character] : -1; }

 private:
  std::array<std::string, 256> written_;
  std::array<int16_t, 0x100 + 68> byte_of_{};
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet instance;
  return instance;
}

void write_piece(std::string_view bytes, std::string& piece) {
  for (const char c : bytes)
    piece += alphabet().written(static_cast<uint8_t>(c));
}

// From a pair of symbols to what they merge into. Keys are hashed, so that looking a pair up costs one cache miss.
class MergeTable {
 public:
  explicit MergeTable(size_t merges)
      : slots_(std::bit_ceil(std::max<size_t>(16, merges * 2))),
        shift_(64 - std::countr_zero(slots_.size())),
        mask_(slots_.size() - 1) {}

  // The first merge of a pair counts.
  void insert(int32_t left, int32_t right, Merge merge) {
    size_t at = place(key(left, right));
    for (; slots_[at].merge.id >= 0; at = (at + 1) & mask_) {
      if (slots_[at].key == key(left, right)) return;
    }
    slots_[at] = {key(left, right), merge};
  }

  Merge find(int32_t left, int32_t right) const {
    const uint64_t wanted = key(left, right);
    for (size_t at = place(wanted);; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.merge.id < 0 || slot.key == wanted) return slot.merge;
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge{0, -1};
  };

  static uint64_t key(int32_t left, int32_t right) {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  }
  size_t place(uint64_t key) const { return (key * 0x9E3779B97F4A7C15u) >> shift_; }

  std::vector<Slot> slots_;
  int shift_;
  size_t mask_;
};

class BpeEncoder : public TextEncoder {
 public:
  BpeEncoder(const Vocabulary& vocabulary, const PreTokenizerName& pre)
      : vocabulary_(vocabulary), pre_(pre), symbols_(vocabulary.size()), merges_(vocabulary.merges.size()) {
    for (size_t i = 0; i < vocabulary.size(); ++i) {
      if (vocabulary.kinds[i] == TokenKind::control) continue;
      symbols_.insert(vocabulary.pieces[i], static_cast<Token>(i));
      longest_ = std::max(longest_, vocabulary.pieces[i].size());
    }
    for (size_t byte = 0; byte < 256; ++byte)
      bytes_[byte] = symbol(alphabet().written(static_cast<uint8_t>(byte)));
  }

  base::Result<void> read_merges() {
    for (size_t i = 0; i < vocabulary_.merges.size(); ++i) {
      const std::string_view line = vocabulary_.merges[i];
      const size_t space = line.find(' ', 1);  // a piece may be a space itself
      if (space == std::string_view::npos || space + 1 == line.size())
        return base::Error(
            base::ErrorCode::corrupt,
            fmt::format("merge {} of the vocabulary is '{}', which is not two pieces with a space between", i, line));
      const std::string_view left = line.substr(0, space);
      const std::string_view right = line.substr(space + 1);
      merged_.assign(left).append(right);
      merges_.insert(symbol(left), symbol(right), {static_cast<uint32_t>(i), symbol(merged_)});
    }
    return {};
  }

  void encode(std::string_view text, std::vector<Token>& out) const override {
    Work work;
    work.characters.assign(text);
    cut_into_words(pre_, work.characters, work.ends, work.scratch);
    size_t begin = 0;
    for (const uint32_t end : work.ends) {
      const size_t byte_end = work.characters.offsets[end];
      encode_word(text.substr(begin, byte_end - begin), work, out);
      begin = byte_end;
    }
  }

 private:
  struct Work {
    Characters characters;
    std::vector<uint32_t> ends;
    std::vector<uint32_t> scratch;
    std::vector<Symbol> symbols;
    std::string written;
    Merger merger;
  };

  // The number of a symbol: its token, or one past the vocabulary for texts that merges speak of but that are no token.
  int32_t symbol(std::string_view text) {
    if (const int32_t known = symbols_.find(text); known >= 0) return known;
    const std::string& kept = extra_.emplace_back(text);
    const auto id = static_cast<int32_t>(vocabulary_.size() + extra_.size() - 1);
    symbols_.insert(kept, id);
    return id;
  }

  void encode_word(std::string_view word, Work& work, std::vector<Token>& out) const {
    if (vocabulary_.ignore_merges && word.size() <= longest_) {
      work.written.clear();
      write_piece(word, work.written);
      const int32_t whole = symbols_.find(work.written);
      if (whole >= 0 && whole < static_cast<int32_t>(vocabulary_.size())) {
        out.push_back(whole);
        return;
      }
    }
    work.symbols.clear();
    for (uint32_t i = 0; i < word.size(); ++i)
      work.symbols.push_back({i, i + 1, bytes_[static_cast<uint8_t>(word[i])]});
    work.merger.merge(work.symbols,
                      [this](const Symbol& left, const Symbol& right) { return merges_.find(left.id, right.id); });
    for (const Symbol& symbol : work.symbols) {
      if (symbol.id < static_cast<int32_t>(vocabulary_.size()))
        out.push_back(symbol.id);
      else
        spell(word.substr(symbol.begin, symbol.end - symbol.begin), out);
    }
  }

  // A symbol that is no token: its bytes, the unknown token for those the vocabulary lacks, or nothing if it has none.
  void spell(std::string_view text, std::vector<Token>& out) const {
    for (const char c : text) {
      const int32_t token = bytes_[static_cast<uint8_t>(c)];
      if (token < static_cast<int32_t>(vocabulary_.size()))
        out.push_back(token);
      else if (vocabulary_.unknown)
        out.push_back(*vocabulary_.unknown);
    }
  }

  const Vocabulary& vocabulary_;
  const PreTokenizerName& pre_;
  PieceTable symbols_;
  std::deque<std::string> extra_;
  std::string merged_;  // working space of read_merges
  MergeTable merges_;
  std::array<int32_t, 256> bytes_{};
  size_t longest_ = 0;  // bytes of the longest piece, as written
};

}  // namespace

base::Result<std::unique_ptr<TextEncoder>> make_bpe_encoder(const Vocabulary& vocabulary) {
  TM_TRY(const PreTokenizerName* pre, find_pre_tokenizer(vocabulary.pre));
  auto encoder = std::make_unique<BpeEncoder>(vocabulary, *pre);
  TM_CHECK(encoder->read_merges());
  return std::unique_ptr<TextEncoder>(std::move(encoder));
}

std::string bpe_piece(std::string_view bytes) {
  std::string piece;
  write_piece(bytes, piece);
  return piece;
}

std::string bpe_piece_bytes(std::string_view piece, TokenKind kind) {
  if (kind == TokenKind::byte) {
    if (const int byte = byte_of_piece(piece); byte >= 0) return std::string(1, static_cast<char>(byte));
  }
  if (kind != TokenKind::normal && kind != TokenKind::unused) return std::string(piece);
  std::string text;
  while (!piece.empty()) {
    const base::utf8::Decoded decoded = base::utf8::decode(piece);
    const int byte = decoded.valid ? alphabet().byte_of(decoded.code_point) : -1;
    if (byte >= 0)
      text += static_cast<char>(byte);
    else
      text += piece.substr(0, decoded.length);
    piece.remove_prefix(decoded.length);
  }
  return text;
}

}  // namespace tidemill::text
