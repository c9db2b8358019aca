// Raw texts that are read as values of other types: where nothing marks a text as one, "null" is null.
#pragma once

#include "grammar/builder.hpp"

namespace tidemill::grammar {

// What the reader of a value takes for something else than the text as it stands, white space around it or not.
struct OtherReadings {
  bool null = false;     // null, and None, as Python's str() writes it
  bool boolean = false;  // true and false, True and False
  bool number = false;   // a number as JSON writes it
  bool array = false;    // anything in brackets, of which what is no JSON would be read as text
  bool object = false;   // the same in braces
  bool text = false;     // a text in quotation marks, as JSON writes it, which is read as what stands between them

  bool any() const { return null || boolean || number || array || object || text; }
};

// The texts that are read so, white space around them included.
Expression texts_read_otherwise(GrammarBuilder& builder, const OtherReadings& readings);

}  // namespace tidemill::grammar
