// Pictographs for emoji: characters with the properties Emoji and Extended_Pictographic in Unicode 15 as well as in 17,
// which took the second from many that are no emoji; so readers of either agree. Without those below U+2000.
#pragma once

#include <string>

namespace tidemill::grammar {

// For use in a class of a pattern.
std::string emoji_pictographs();

}  // namespace tidemill::grammar
