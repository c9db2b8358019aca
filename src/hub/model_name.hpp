// How models on the hub are called: "hf:ORG/REPO", "hf:ORG/REPO@REVISION", and with either ":CHOICE" behind it, which
// says what of a repository with several models is meant ("Q4_K_M", or a file's name).
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::hub {

struct ModelName {
  std::string repository;         // "ORG/REPO"
  std::string revision = "main";  // a branch, a tag or a commit
  std::string choice;             // empty: none

  // Whether the text means a model of the hub, rather than a path.
  static bool is_one(std::string_view text) { return text.starts_with("hf:"); }
  // `invalid_argument`, which says what is wrong and how it should look.
  static base::Result<ModelName> parse(std::string_view text);
  // As `parse` takes it; without the revision where it is "main".
  std::string text() const;
};

}  // namespace tidemill::hub
