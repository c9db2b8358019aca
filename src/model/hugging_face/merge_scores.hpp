// SentencePiece's scores from the merges that a tokenizer.json has in their place.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace tidemill::model {

// SentencePiece's BPE merges any two neighbours whose text together is a piece, those of the highest score first. A
// tokenizer.json lists the pairs that merge, best first. Where it was made from a SentencePiece model, the list has
// every way to put a piece together, piece by piece in the order of their scores, and that order is all that scores
// mean.
//
// `text[i]` tells whether piece i is text (and no byte, control or unknown token). Gives a score for each piece: 0 for
// what is no text, else -1, -2, ... in the order of the merges; pieces that no merge makes come last. None, and the
// reason in `fault`, where scores cannot say what the list says, or where the pieces are longer than real ones by far.
std::optional<std::vector<float>> merge_scores(std::span<const std::string> pieces, const std::vector<bool>& text,
                                               std::span<const std::pair<std::string, std::string>> merges,
                                               std::string& fault);

}  // namespace tidemill::model
