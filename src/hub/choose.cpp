#include "hub/choose.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/json.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "model/hugging_face/folder_files.hpp"
#include "model/split_gguf.hpp"

namespace tidemill::hub {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

constexpr std::string_view kSingleWeights = "model.safetensors";
constexpr std::string_view kWeightsIndex = "model.safetensors.index.json";
// The other forms of a tokenizer, which are small, and other programs read.
constexpr std::array<std::string_view, 6> kOtherForms = {
    "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt", "chat_template.json",
};
constexpr std::array<std::string_view, 2> kTakenFirst = {"q4_k_m", "q8_0"};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);
}

std::string_view folder_of(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
}

// A GGUF model, of one file or several in their order.
struct GgufModel {
  std::string stem;  // path without ".gguf" and the shard's number
  size_t count = 1;  // of files that there should be
  std::vector<RepoFile> files;

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const RepoFile& file : files)
      sum += file.size;
    return sum;
  }
};

std::vector<GgufModel> gguf_models(std::span<const RepoFile> files) {
  constexpr std::string_view ending = ".gguf";
  std::map<std::string, GgufModel> models;
  for (const RepoFile& file : files) {
    if (!lower(file.path).ends_with(ending)) continue;
    GgufModel model{.stem = file.path.substr(0, file.path.size() - ending.size()), .count = 1, .files = {}};
    std::string key = file.path;
    if (const auto shard = model::parse_shard_name(file_name(file.path))) {
      model.stem = file.path.substr(0, file.path.size() - file_name(file.path).size()) + shard->name;
      model.count = static_cast<size_t>(shard->count);
      key = fmt::format("{}-of-{}", model.stem, shard->count);
    }
    models.try_emplace(std::move(key), std::move(model)).first->second.files.push_back(file);
  }
  std::vector<GgufModel> list;
  for (auto& [key, model] : models) {
    std::sort(model.files.begin(), model.files.end(),
              [](const RepoFile& a, const RepoFile& b) { return a.path < b.path; });
    list.push_back(std::move(model));
  }
  return list;
}

// Part of a model, or of the work on one.
bool is_companion(const GgufModel& model) {
  const std::string name = lower(file_name(model.stem));
  return name.find("mmproj") != std::string::npos || name.find("imatrix") != std::string::npos;
}

bool is_named(const GgufModel& model, std::string_view choice) {
  if (choice == model.stem || choice == file_name(model.stem)) return true;
  return std::any_of(model.files.begin(), model.files.end(), [&](const RepoFile& file) {
    const std::string_view path = file.path;
    const auto same = [&](std::string_view whole) {
      return choice == whole || choice == whole.substr(0, whole.size() - std::string_view(".gguf").size());
    };
    return same(path) || same(file_name(path));
  });
}

// Of a choice in lower case.
bool ends_in(const GgufModel& model, std::string_view choice) {
  const std::string name = lower(file_name(model.stem));
  if (name == choice) return true;
  if (!std::string_view(name).ends_with(choice)) return false;
  const char before = name[name.size() - choice.size() - 1];
  return before == '-' || before == '.' || before == '_';
}

bool lies_in(const GgufModel& model, std::string_view choice) {
  return lower(file_name(folder_of(model.stem))) == choice && !folder_of(model.stem).empty();
}

// With the first kind of match that finds any.
std::vector<const GgufModel*> matches(const std::vector<GgufModel>& models, std::string_view choice) {
  const std::string folded = lower(choice);
  std::vector<const GgufModel*> found;
  const auto collect = [&](const auto& match) {
    if (!found.empty()) return;
    for (const GgufModel& model : models) {
      if (match(model)) found.push_back(&model);
    }
  };
  collect([&](const GgufModel& model) { return is_named(model, choice); });
  collect([&](const GgufModel& model) { return !is_companion(model) && ends_in(model, folded); });
  collect([&](const GgufModel& model) { return !is_companion(model) && lies_in(model, folded); });
  return found;
}

// One line for each model, with what is to be typed.
std::string to_choose_from(const ModelName& name, const std::vector<GgufModel>& models) {
  std::string list;
  ModelName one = name;
  for (const GgufModel& model : models) {
    if (is_companion(model)) continue;
    const auto alike = std::count_if(models.begin(), models.end(), [&](const GgufModel& other) {
      return file_name(other.stem) == file_name(model.stem);
    });
    one.choice = alike > 1 ? model.stem : std::string(file_name(model.stem));
    list += fmt::format("\n  {}  {}", base::utf8::printable(one.text()),
                        base::human_bytes(static_cast<double>(model.bytes())));
    if (model.count > 1) list += fmt::format(" in {} files", model.count);
  }
  return list.empty() ? "\n  (no GGUF model)" : list;
}

Result<Selection> select_gguf(const ModelName& name, const GgufModel& model) {
  if (model.files.size() != model.count) {
    return Error(ErrorCode::not_found, fmt::format("{}: the model '{}' is split over {} files, of which {} are there",
                                                   name.text(), model.stem, model.count, model.files.size()));
  }
  return Selection{
      .files = model.files, .model = model.files.front().path, .index = std::nullopt, .modules = std::nullopt};
}

Result<Selection> choose_gguf(const ModelName& name, std::span<const RepoFile> files) {
  const std::vector<GgufModel> models = gguf_models(files);
  std::vector<const GgufModel*> found = matches(models, name.choice);
  if (found.empty()) {
    return Error(ErrorCode::not_found, fmt::format("{}: nothing there is called '{}'; there are{}", name.text(),
                                                   name.choice, to_choose_from(name, models)));
  }
  if (found.size() > 1) {
    std::vector<GgufModel> meant;
    meant.reserve(found.size());
    for (const GgufModel* model : found)
      meant.push_back(*model);
    return Error(ErrorCode::invalid_argument, fmt::format("{}: '{}' may mean several models:{}", name.text(),
                                                          name.choice, to_choose_from(name, meant)));
  }
  return select_gguf(name, *found.front());
}

// Where no choice is given: the only one, or one of those that most people take.
Result<Selection> choose_default(const ModelName& name, std::span<const RepoFile> files) {
  std::vector<GgufModel> models = gguf_models(files);
  std::erase_if(models, is_companion);
  if (models.empty()) {
    return Error(ErrorCode::unsupported,
                 fmt::format("{} holds only parts of a model (mmproj, imatrix), and no GGUF model", name.text()));
  }
  if (models.size() == 1) return select_gguf(name, models.front());
  for (const std::string_view choice : kTakenFirst) {
    const auto found = matches(models, choice);
    if (found.size() == 1) return select_gguf(name, *found.front());
  }
  return Error(ErrorCode::invalid_argument,
               fmt::format("{} holds several models; name one:{}", name.text(), to_choose_from(name, models)));
}

const RepoFile* find_file(std::span<const RepoFile> files, std::string_view path) {
  const auto found = std::find_if(files.begin(), files.end(), [&](const RepoFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

Result<Selection> choose_folder(const ModelName& name, std::span<const RepoFile> files) {
  if (find_file(files, "tokenizer.json") == nullptr && find_file(files, "tiktoken.model") == nullptr) {
    return Error(ErrorCode::unsupported,
                 fmt::format("{} has no tokenizer.json (nor Kimi K2's tiktoken.model), without which Tidemill does not "
                             "read a folder; look for a repository with GGUF files of the model",
                             name.text()));
  }
  Selection selection;
  for (const std::string_view path : folder_files()) {
    if (const RepoFile* const file = find_file(files, path)) selection.files.push_back(*file);
  }
  if (const RepoFile* const modules = find_file(files, model::kModulesFile)) selection.modules = *modules;
  if (const RepoFile* const weights = find_file(files, kSingleWeights)) {
    selection.files.push_back(*weights);
  } else {
    selection.index = *find_file(files, kWeightsIndex);
    selection.files.push_back(*selection.index);
  }
  return selection;
}

}  // namespace

std::vector<std::string_view> folder_files() {
  std::vector<std::string_view> names(model::kFolderFiles.begin(), model::kFolderFiles.end());
  names.insert(names.end(), kOtherForms.begin(), kOtherForms.end());
  return names;
}

Result<Selection> choose(const ModelName& name, std::span<const RepoFile> files) {
  if (!name.choice.empty()) return choose_gguf(name, files);
  const bool has_weights = find_file(files, kSingleWeights) != nullptr || find_file(files, kWeightsIndex) != nullptr;
  if (has_weights && find_file(files, "config.json") != nullptr) return choose_folder(name, files);
  const auto is_gguf = [](const RepoFile& file) { return lower(file.path).ends_with(".gguf"); };
  if (std::any_of(files.begin(), files.end(), is_gguf)) return choose_default(name, files);
  return Error(ErrorCode::unsupported,
               fmt::format("{} holds no model that Tidemill reads: neither a GGUF file nor a config.json with "
                           "model.safetensors (of weights, nothing else is read)",
                           name.text()));
}

Result<void> add_shards(Selection& selection, std::string_view index, std::span<const RepoFile> files) {
  auto parsed = base::parse_json(index);
  if (!parsed) return Error(ErrorCode::corrupt, fmt::format("{}: {}", kWeightsIndex, parsed.error().message()));
  const json::object* const object = parsed->if_object();
  const json::value* const map = object != nullptr ? object->if_contains("weight_map") : nullptr;
  if (map == nullptr || !map->is_object()) {
    return Error(ErrorCode::corrupt, fmt::format("{} has no object 'weight_map'", kWeightsIndex));
  }
  std::set<std::string> names;
  for (const auto& [tensor, file] : map->get_object()) {
    if (!file.is_string())
      return Error(ErrorCode::corrupt, fmt::format("{}: 'weight_map' names no file", kWeightsIndex));
    names.emplace(std::string_view(file.get_string()));
  }
  for (const std::string& shard : names) {
    const RepoFile* const file = find_file(files, shard);
    if (file == nullptr) {
      return Error(ErrorCode::corrupt, fmt::format("{} names the file '{}', which the repository does not have",
                                                   kWeightsIndex, base::utf8::printable(shard, 200)));
    }
    if (find_file(selection.files, shard) == nullptr) selection.files.push_back(*file);
  }
  return {};
}

Result<void> add_pooling(Selection& selection, std::string_view modules, std::span<const RepoFile> files) {
  TM_TRY(const std::optional<std::string> path, model::pooling_file(modules, model::kModulesFile));
  if (!path) return {};
  const RepoFile* const file = find_file(files, *path);
  if (file == nullptr) {
    return Error(ErrorCode::corrupt, fmt::format("{} names the file '{}', which the repository does not have",
                                                 model::kModulesFile, base::utf8::printable(*path, 200)));
  }
  if (find_file(selection.files, *path) == nullptr) selection.files.push_back(*file);
  return {};
}

}  // namespace tidemill::hub
