#include "model/hugging_face/tokenizer_files.hpp"

#include <string_view>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "model/hugging_face/folder_files.hpp"
#include "model/hugging_face/tiktoken_file.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr size_t kMaxTokenizerBytes = size_t{128} << 20;
constexpr size_t kMaxConfigBytes = size_t{4} << 20;  // these hold a chat template and every added token
constexpr size_t kMaxTemplateBytes = size_t{1} << 20;

// The template itself; of several under names, the default one.
Result<std::string> read_template(const std::filesystem::path& folder, const JsonMembers& names) {
  const std::filesystem::path own = folder / "chat_template.jinja";
  if (!is_absent(own)) return base::read_regular_file(own, kMaxTemplateBytes);
  const json::value* value = names.find("chat_template");
  if (value == nullptr || !value->is_array()) return names.get_string_or("chat_template", "");
  for (const json::value& item : value->get_array()) {
    const json::object* named = item.if_object();
    const json::value* name = named == nullptr ? nullptr : named->if_contains("name");
    const json::value* source = named == nullptr ? nullptr : named->if_contains("template");
    if (name == nullptr || !name->is_string() || source == nullptr || !source->is_string()) {
      return names.wrong("chat_template", "a text, or a list of objects with 'name' and 'template'");
    }
    if (name->get_string() == "default") return std::string(std::string_view(source->get_string()));
  }
  return std::string();
}

}  // namespace

Result<TokenizerFiles> read_tokenizer_files(const std::filesystem::path& folder) {
  TokenizerFiles files;
  TM_TRY(files.names, JsonMembers::read_if_there(folder / "tokenizer_config.json", kMaxConfigBytes));
  const std::string name = tokenizer_file_name(folder);
  if (name.empty()) {
    return Error(
        ErrorCode::not_found,
        fmt::format("{}: 'tokenizer.json' is missing; transformers writes it with save_pretrained() (Kimi K2's "
                    "'tiktoken.model', which may be in its place, is not there either)",
                    folder.string()));
  }
  TM_TRY(files.tokenizer, name == kTiktokenFile ? read_tiktoken(folder / name, files.names)
                                                : JsonMembers::read(folder / name, kMaxTokenizerBytes));
  TM_TRY(files.generation, JsonMembers::read_if_there(folder / "generation_config.json", kMaxConfigBytes));
  TM_TRY(files.chat_template, read_template(folder, files.names));
  TM_TRY(files.sentence, JsonMembers::read_if_there(folder / "sentence_bert_config.json", kMaxConfigBytes));
  return files;
}

std::string tokenizer_file_name(const std::filesystem::path& folder) {
  for (const std::string_view name : {kTokenizerFile, kTiktokenFile}) {
    if (!is_absent(folder / name)) return std::string(name);
  }
  return {};
}

}  // namespace tidemill::model
