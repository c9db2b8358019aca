// How far quantised arithmetic moves a model's predictions from the plain dequantised model.
//
//   bench_accuracy MODEL.gguf --text FILE | --random-tokens SEED [--tokens N] [--window N] [--kv-type T] [--json]
//
// Loads the same file twice: as it is, which quantises activations to int8, and with every matrix dequantised to F32,
// which computes in F32 throughout (and keeps keys and values in F32). Both read the same tokens, cut into windows that
// start afresh, and every position's distribution over the next token is compared.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "model/gguf.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "tensor/cpu_device.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

using Tokens = std::vector<model::Token>;

struct Flags {
  std::string model;
  std::string text;
  uint64_t seed = 1;
  bool random = false;
  int64_t tokens = 2048;
  int64_t window = 256;
  double tie = 0.05;  // nats
  std::string kv_type = "f32";
  std::string windows_out;
  int threads = base::cpu_budget().threads;
  bool as_json = false;
};

// One position's distribution under the quantised arithmetic, against the reference's.
struct Compared {
  double divergence;          // KL(reference || quantised), nats
  bool agrees;                // same most likely token
  double margin;              // of the reference: log p(first) - log p(second)
  double shift;               // |change of log p| of the reference's most likely token
  double reference_surprise;  // -log p of the token that follows; 0 at a window's end
  double surprise;
};

double log_sum_exp(std::span<const float> logits, float highest) {
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp(logit - highest);
  return highest + std::log(sum);
}

Compared compare(std::span<const float> reference, std::span<const float> quantised, const model::Token* next) {
  const auto best = std::max_element(reference.begin(), reference.end());
  const auto other = std::max_element(quantised.begin(), quantised.end());
  float second = -HUGE_VALF;
  for (auto it = reference.begin(); it != reference.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  const double zero = log_sum_exp(reference, *best);
  const double zero_quantised = log_sum_exp(quantised, *other);
  double divergence = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - zero;
    divergence += std::exp(log_p) * (log_p - (quantised[i] - zero_quantised));
  }
  const auto at = static_cast<size_t>(best - reference.begin());
  Compared result{divergence, at == static_cast<size_t>(other - quantised.begin()), *best - second, 0, 0, 0};
  result.shift = std::abs(quantised[at] - zero_quantised - (*best - zero));
  if (next != nullptr) {
    result.reference_surprise = zero - reference[static_cast<size_t>(*next)];
    result.surprise = zero_quantised - quantised[static_cast<size_t>(*next)];
  }
  return result;
}

// A model and a cache for one window.
struct Side {
  std::unique_ptr<model::Model> model;
  std::unique_ptr<tensor::KvCache> cache;

  static base::Result<Side> load(const model::GgufFile& file, tensor::Device& device, const Flags& flags,
                                 bool reference) {
    Side side;
    model::LoadOptions options;
    options.max_batch_rows = flags.window;
    options.dequantize = reference;
    TM_TRY(side.model, model::load_model(file, device, options));
    tensor::KvShape shape = side.model->kv_shape();
    shape.blocks = (flags.window + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
    shape.type = reference ? tensor::KvType::f32 : *tensor::parse_kv_type(flags.kv_type);  // checked by main
    TM_TRY(side.cache, device.make_kv_cache(shape));
    return side;
  }

  // Logits after each token of a window.
  tensor::ConstMatrix read(const Tokens& window) {
    std::vector<int32_t> rows(window.size());
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<int32_t> sequences(window.size(), 0);
    std::vector<int32_t> blocks(static_cast<size_t>(cache->shape().blocks));
    std::iota(blocks.begin(), blocks.end(), 0);
    const std::vector<std::span<const int32_t>> tables = {blocks};
    return model
        ->forward({.tokens = window,
                   .positions = rows,
                   .sequences = sequences,
                   .block_tables = tables,
                   .logit_rows = rows,
                   .hidden_rows = {}},
                  *cache)
        .logits;
  }
};

base::Result<std::vector<Tokens>> read_windows(const model::GgufFile& file, const Flags& flags, int64_t vocabulary) {
  Tokens tokens;
  Tokens start;
  if (flags.random) {
    std::mt19937_64 random(flags.seed);
    for (int64_t i = 0; i < flags.tokens; ++i)
      tokens.push_back(static_cast<model::Token>(random() % static_cast<uint64_t>(vocabulary)));
  } else {
    TM_TRY(text::Vocabulary pieces, model::read_vocabulary(file));
    if (pieces.add_bos && pieces.bos) start.push_back(*pieces.bos);
    TM_TRY(const auto tokenizer, text::Tokenizer::create(std::move(pieces)));
    TM_TRY(const std::string text, base::read_file(flags.text));
    TM_TRY(tokens, tokenizer->encode(text, {.add_special = false}));
    if (static_cast<int64_t>(tokens.size()) > flags.tokens) tokens.resize(static_cast<size_t>(flags.tokens));
  }
  std::vector<Tokens> windows;
  const size_t room = static_cast<size_t>(flags.window) - start.size();
  for (size_t at = 0; at < tokens.size(); at += room) {
    Tokens& window = windows.emplace_back(start);
    window.insert(window.end(), tokens.begin() + static_cast<int64_t>(at),
                  tokens.begin() + static_cast<int64_t>(std::min(at + room, tokens.size())));
  }
  return windows;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(at), values.end());
  return values[at];
}

base::json::object summarize(const std::vector<Compared>& all, double tie) {
  std::vector<double> divergences;
  std::vector<double> margins;
  std::vector<double> margins_of_disagreements;
  double divergence = 0;
  double shift = 0;
  double ties = 0;
  double agreed_of_clear = 0;
  for (const Compared& one : all) {
    divergences.push_back(one.divergence);
    margins.push_back(one.margin);
    divergence += one.divergence;
    shift += one.shift;
    if (!one.agrees) margins_of_disagreements.push_back(one.margin);
    if (one.margin < tie) {
      ++ties;
    } else if (one.agrees) {
      ++agreed_of_clear;
    }
  }
  const auto n = static_cast<double>(all.size());
  const auto disagreements = static_cast<double>(margins_of_disagreements.size());
  const auto tied = static_cast<double>(std::count_if(margins_of_disagreements.begin(), margins_of_disagreements.end(),
                                                      [&](double margin) { return margin < tie; }));
  return {{"positions", all.size()},
          {"kl_mean", divergence / n},
          {"kl_p99", quantile(divergences, 0.99)},
          {"top1_agreement", 1 - disagreements / n},
          {"mean_shift_of_top1", shift / n},
          {"tie_margin", tie},
          {"ties_share", ties / n},
          {"top1_agreement_without_ties", ties < n ? agreed_of_clear / (n - ties) : 1},
          {"disagreements", margins_of_disagreements.size()},
          {"disagreements_at_ties", tied},
          {"median_margin", quantile(margins, 0.5)},
          {"median_margin_of_disagreements", quantile(margins_of_disagreements, 0.5)},
          {"largest_margin_of_disagreements", quantile(margins_of_disagreements, 1)}};
}

void print(const base::json::object& result, const Flags& flags, std::string_view device) {
  const auto get = [&](std::string_view key) { return result.at(key).to_number<double>(); };
  fmt::print("{} on {}, keys and values {}, {:.0f} positions, against F32\n", flags.model, device, flags.kv_type,
             get("positions"));
  fmt::print("  KL divergence       mean {:.3g}, 99th percentile {:.3g} nats\n", get("kl_mean"), get("kl_p99"));
  fmt::print("  top-1 agreement     {:.2f} %; the most likely token's log-probability moves by {:.3g} on average\n",
             100 * get("top1_agreement"), get("mean_shift_of_top1"));
  fmt::print("  near ties           {:.2f} % of positions have a margin under {} nats; elsewhere {:.2f} % agree\n",
             100 * get("ties_share"), get("tie_margin"), 100 * get("top1_agreement_without_ties"));
  fmt::print(
      "  {:.0f} disagreements: {:.0f} near ties; margins' median {:.3g}, largest {:.3g}; of all positions {:.3g}\n",
      get("disagreements"), get("disagreements_at_ties"), get("median_margin_of_disagreements"),
      get("largest_margin_of_disagreements"), get("median_margin"));
  if (result.contains("perplexity")) {
    fmt::print("  perplexity          {:.5f}, in F32 {:.5f}\n", get("perplexity"), get("reference_perplexity"));
  }
}

base::json::array as_json(const std::vector<Tokens>& windows) {
  base::json::array list;
  for (const Tokens& window : windows)
    list.emplace_back(base::json::array(window.begin(), window.end()));
  return list;
}

base::Result<void> measure(const Flags& flags) {
  TM_TRY(const auto isa, tensor::choose_isa());
  const auto device = tensor::make_cpu_device(isa, flags.threads);
  TM_TRY(const auto file, model::GgufFile::open(flags.model));
  TM_TRY(Side plain, Side::load(file, *device, flags, true));
  TM_TRY(Side quantised, Side::load(file, *device, flags, false));
  TM_TRY(const auto windows, read_windows(file, flags, plain.model->hyper_parameters().vocabulary));
  if (!flags.windows_out.empty()) {
    TM_CHECK(base::write_file(flags.windows_out, base::json::serialize(as_json(windows))));
  }
  std::vector<Compared> all;
  double surprise = 0;
  double reference_surprise = 0;
  size_t predicted = 0;
  for (const Tokens& window : windows) {
    const tensor::ConstMatrix a = plain.read(window);
    const tensor::ConstMatrix b = quantised.read(window);
    for (size_t i = 0; i < window.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      const auto n = static_cast<size_t>(a.cols);
      const bool last = i + 1 == window.size();
      all.push_back(compare({a.row(row), n}, {b.row(row), n}, last ? nullptr : &window[i + 1]));
      surprise += all.back().surprise;
      reference_surprise += all.back().reference_surprise;
      predicted += last ? 0 : 1;
    }
  }
  if (all.empty()) return base::Error(base::ErrorCode::invalid_argument, "there are no tokens to measure on");
  base::json::object result = summarize(all, flags.tie);
  result["model"] = flags.model;
  result["device"] = device->description();
  result["kv_type"] = flags.kv_type;
  if (!flags.random && predicted > 0) {
    result["perplexity"] = std::exp(surprise / static_cast<double>(predicted));
    result["reference_perplexity"] = std::exp(reference_surprise / static_cast<double>(predicted));
  }
  if (flags.as_json) {
    fmt::print("{}\n", base::pretty_json(result));
  } else {
    print(result, flags, device->description());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app("How far quantised arithmetic moves a model's predictions from the plain dequantised model");
  app.add_option("model", flags.model, "GGUF file")->required();
  auto* text = app.add_option("--text", flags.text, "File whose text the model reads");
  auto* seed = app.add_option("--random-tokens", flags.seed, "Seed of random tokens, instead of a text");
  text->excludes(seed);
  app.add_option("--tokens", flags.tokens, "Most tokens")->check(CLI::Range(1, 1 << 24))->capture_default_str();
  app.add_option("--window", flags.window, "Tokens that are read together")
      ->check(CLI::Range(2, 1 << 16))
      ->capture_default_str();
  app.add_option("--kv-type", flags.kv_type, "Of the quantised run: f32, f16, bf16, int8")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "int8"}))
      ->capture_default_str();
  app.add_option("--tie", flags.tie, "Margin in nats under which a position counts as a near tie")
      ->capture_default_str();
  app.add_option("--windows-out", flags.windows_out, "Write the windows' tokens as JSON");
  app.add_option("--threads", flags.threads)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_flag("--json", flags.as_json, "Print JSON");
  CLI11_PARSE(app, argc, argv);
  flags.random = seed->count() > 0;
  if (text->count() == 0 && !flags.random) {
    std::fprintf(stderr, "bench_accuracy needs --text or --random-tokens\n");
    return 2;
  }
  if (const auto measured = measure(flags); !measured) {
    std::fprintf(stderr, "%s\n", measured.error().to_string().c_str());
    return 1;
  }
  return 0;
}
