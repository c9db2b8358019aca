#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <system_error>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/model_source.hpp"
#include "model/gguf_json.hpp"
#include "model/hugging_face/folder.hpp"
#include "model/load.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::cli {

namespace json = base::json;
namespace utf8 = base::utf8;

namespace {

struct InspectFlags {
  std::string model;
  bool tensors = false;
  bool as_json = false;
};

struct TypeShare {
  int64_t tensors = 0;
  int64_t elements = 0;
  size_t bytes = 0;
};

std::map<std::string, TypeShare> share_by_type(const model::Checkpoint& file) {
  std::map<std::string, TypeShare> shares;
  for (const model::GgufTensor& tensor : file.tensors()) {
    TypeShare& share = shares[std::string(tensor.type_name())];
    ++share.tensors;
    share.elements += tensor.elements();
    share.bytes += tensor.bytes();
  }
  return shares;
}

// "GGUF v3", "GGUF v3 in 3 files"
std::string form_text(const model::Checkpoint& file) {
  if (file.version() == 0) return fmt::format("Hugging Face folder of {} files", file.files().size());
  const std::string form = fmt::format("GGUF v{}", file.version());
  return file.files().size() == 1 ? form : fmt::format("{} in {} files", form, file.files().size());
}

int64_t windowed_layers(const model::HyperParameters& shape) {
  return std::count(shape.windowed.begin(), shape.windowed.end(), true);
}

json::object shape_json(const model::HyperParameters& shape) {
  json::object body{{"vocabulary", shape.vocabulary}, {"context", shape.context},           {"layers", shape.layers},
                    {"width", shape.width},           {"feed_forward", shape.feed_forward}, {"heads", shape.heads},
                    {"kv_heads", shape.kv_heads},     {"head_dim", shape.head_dim}};
  if (shape.window > 0) {
    body["window"] = shape.window;
    body["window_layers"] = windowed_layers(shape);
  }
  if (shape.experts.count > 0) {
    body["experts"] = {{"count", shape.experts.count},
                       {"used", shape.experts.rule.used},
                       {"feed_forward", shape.experts.feed_forward},
                       {"shared_feed_forward", shape.experts.shared_feed_forward},
                       {"first_layer", shape.experts.first_layer}};
  }
  if (shape.latent.rank > 0) {
    body["latent"] = {{"rank", shape.latent.rank},
                      {"query_rank", shape.latent.query_rank},
                      {"key_dim", shape.latent.key_dim},
                      {"value_dim", shape.latent.value_dim}};
  }
  return body;
}

void print_json(const model::Checkpoint& file, const base::Result<model::HyperParameters>& shape, bool tensors) {
  json::object body{{"file", utf8::sanitize(file.path().string())},
                    {"form", file.version() == 0 ? "hugging_face" : "gguf"},
                    {"files", file.files().size()},
                    {"bytes", file.file_bytes()},
                    {"parameters", file.parameters()},
                    {"tensor_count", file.tensors().size()}};
  if (file.version() != 0) body["gguf_version"] = file.version();
  if (const model::PackedInfo* packed = file.packed()) {
    body["packed"] = {{"layout", packed->layout},
                      {"loadable", packed->layout == tensor::kPackedLayoutVersion},
                      {"writer", utf8::sanitize(packed->writer)},
                      {"source", utf8::sanitize(packed->source)},
                      {"source_bytes", packed->source_bytes}};
  }
  if (shape) {
    body["architecture"] = shape->architecture;
    body["name"] = utf8::sanitize(shape->name);
    body["shape"] = shape_json(*shape);
  } else {
    body["cannot_run"] = utf8::sanitize(shape.error().to_string());
  }
  json::object& types = body["types"].emplace_object();
  for (const auto& [name, share] : share_by_type(file)) {
    types[name] = {{"tensors", share.tensors}, {"elements", share.elements}, {"bytes", share.bytes}};
  }
  json::object& metadata = body["metadata"].emplace_object();
  for (const model::GgufEntry& entry : file.metadata())
    metadata[utf8::sanitize(entry.key)] = model::to_json(entry.value);
  if (tensors) {
    json::array& list = body["tensors"].emplace_array();
    for (const model::GgufTensor& tensor : file.tensors()) {
      json::array dimensions(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
      list.push_back({{"name", utf8::sanitize(tensor.name)},
                      {"type", tensor.type_name()},
                      {"shape", std::move(dimensions)},
                      {"bytes", tensor.bytes()},
                      {"packed", tensor.panels}});
    }
  }
  fmt::print("{}\n", base::pretty_json(body));
}

void print_text(const model::Checkpoint& file, const base::Result<model::HyperParameters>& shape, bool tensors) {
  fmt::print("{}: {}, {}\n", utf8::printable(file.path().string()), form_text(file),
             base::human_bytes(static_cast<double>(file.file_bytes())));
  if (const model::PackedInfo* packed = file.packed()) {
    fmt::print("  packed in layout {} by {} from {} ({}){}\n", packed->layout, model::printable(packed->writer),
               model::printable(packed->source), base::human_bytes(static_cast<double>(packed->source_bytes)),
               packed->layout == tensor::kPackedLayoutVersion
                   ? ""
                   : fmt::format("; this program needs layout {}: pack it again", tensor::kPackedLayoutVersion));
  }
  if (shape) {
    fmt::print("  {} model{}, {:.3g} M parameters in {} tensors\n", shape->architecture,
               shape->name.empty() ? "" : " \"" + utf8::printable(shape->name, 120) + "\"",
               static_cast<double>(file.parameters()) / 1e6, file.tensors().size());
    fmt::print("  {} layers of width {}, feed-forward {}, {} query and {} key/value heads of {}\n", shape->layers,
               shape->width, shape->feed_forward, shape->heads, shape->kv_heads, shape->head_dim);
    if (shape->latent.rank > 0) {
      fmt::print("  of keys and values, a latent of {} elements and {} rotated ones are kept\n", shape->latent.rank,
                 shape->head_dim - shape->latent.rank);
    }
    if (shape->experts.count > 0) {
      const int64_t dense = shape->experts.first_layer;
      fmt::print("  {} experts of {} in each layer{}, {} of them used{}\n", shape->experts.count,
                 shape->experts.feed_forward, dense > 0 ? fmt::format(" but the first {}", dense) : "",
                 shape->experts.rule.used,
                 shape->experts.shared_feed_forward > 0
                     ? fmt::format(", and one of {} for all", shape->experts.shared_feed_forward)
                     : "");
    }
    if (shape->window > 0) {
      fmt::print("  {} layers see a window of {} tokens\n", windowed_layers(*shape), shape->window);
    }
    fmt::print("  vocabulary {}, context {} tokens\n", shape->vocabulary, shape->context);
  } else {
    fmt::print("  cannot be run: {}\n", utf8::printable(shape.error().to_string()));
  }
  fmt::print("\nweights\n");
  for (const auto& [name, share] : share_by_type(file)) {
    fmt::print("  {:<6} {:>5} tensors {:>12} elements {:>10}\n", name, share.tensors, share.elements,
               base::human_bytes(static_cast<double>(share.bytes)));
  }
  fmt::print("\nmetadata\n");
  size_t widest = 0;
  for (const model::GgufEntry& entry : file.metadata())
    widest = std::max(widest, utf8::length(model::printable(entry.key)));
  for (const model::GgufEntry& entry : file.metadata()) {
    fmt::print("  {:<{}}  {}\n", model::printable(entry.key), std::min<size_t>(widest, 48), entry.value.describe(80));
  }
  if (!tensors) return;
  fmt::print("\ntensors (shapes innermost first)\n");
  for (const model::GgufTensor& tensor : file.tensors()) {
    fmt::print("  {:<32} {:<6} {}{}\n", model::printable(tensor.name), tensor.type_name(), tensor.shape_text(),
               tensor.panels ? " packed" : "");
  }
}

base::Result<int> inspect(const InspectFlags& flags) {
  const auto show = flags.as_json ? print_json : print_text;
  TM_TRY(const std::filesystem::path path, find_model(flags.model));
  const auto opened = open_model(path.string());
  if (opened) {
    show(*opened, model::read_any_hyper_parameters(*opened), flags.tensors);
    return exit_success;
  }
  // A folder whose model this build does not run, or that lacks or contradicts something, is shown as it is stored.
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return opened.error();
  const auto file = model::open_stored_folder(path);
  if (!file) return opened.error();
  show(*file, opened.error(), flags.tensors);
  return exit_success;
}

}  // namespace

void add_inspect(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("inspect", "Show what a model file holds");
  auto flags = std::make_shared<InspectFlags>();
  add_model_flag(*command, flags->model, true);
  command->add_flag("--tensors", flags->tensors, "List every tensor");
  command->add_flag("--json", flags->as_json,
                    "Print JSON; metadata are strings, numbers and booleans, long arrays objects of type, count and "
                    "the first elements");
  command->callback([=, &chosen] { chosen.body = [flags] { return inspect(*flags); }; });
}

}  // namespace tidemill::cli
