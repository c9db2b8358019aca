// How far quantised arithmetic moves a model's predictions from the plain dequantised model: `tidemill eval --plain`,
// for comparisons with other engines, which want random tokens and the windows as they were read.
//
//   bench_accuracy MODEL.gguf --text FILE | --random-tokens SEED [--tokens N] [--window N] [--kv-type T] [--json]
//
// Loads the same file twice: as it is, which quantises activations, and with every matrix dequantised to F32, which
// computes in F32 throughout (and keeps keys and values in F32). Both read the same tokens, cut into windows that start
// afresh, and every position's distribution over the next token is compared.
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "evaluate/subject.hpp"
#include "evaluate/text_runner.hpp"
#include "evaluate/windows.hpp"
#include "model/checkpoint.hpp"
#include "tensor/cpu_device.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

using Tokens = std::vector<evaluate::Token>;

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

base::Result<Tokens> read_tokens(const evaluate::Subject& subject, const Flags& flags) {
  Tokens tokens;
  if (flags.random) {
    std::mt19937_64 random(flags.seed);
    const auto vocabulary = static_cast<uint64_t>(subject.model().hyper_parameters().vocabulary);
    for (int64_t i = 0; i < flags.tokens; ++i)
      tokens.push_back(static_cast<evaluate::Token>(random() % vocabulary));
    return tokens;
  }
  TM_TRY(const std::string text, base::read_file(flags.text));
  TM_TRY(tokens, subject.tokenizer().encode(text, {.add_special = false}));
  if (static_cast<int64_t>(tokens.size()) > flags.tokens) tokens.resize(static_cast<size_t>(flags.tokens));
  return tokens;
}

// The windows' tokens, as they are read.
base::json::array windows_json(const evaluate::Subject& subject, const Tokens& tokens, int64_t window) {
  base::json::array list;
  const auto size = static_cast<size_t>(window);
  for (const evaluate::Window& cut : evaluate::cut(tokens.size(), size, size, subject.lead().size())) {
    base::json::array read(subject.lead().begin(), subject.lead().end());
    read.insert(read.end(), tokens.begin() + static_cast<int64_t>(cut.begin),
                tokens.begin() + static_cast<int64_t>(cut.end));
    list.emplace_back(std::move(read));
  }
  return list;
}

base::json::object summarize(const evaluate::Comparison& all) {
  return {{"positions", all.positions()},
          {"kl_mean", all.divergence_mean()},
          {"kl_p99", all.divergence_quantile(0.99)},
          {"top1_agreement", all.top1_agreement()},
          {"mean_shift_of_top1", all.shift_mean()},
          {"tie_margin", all.tie()},
          {"ties_share", all.ties_share()},
          {"top1_agreement_without_ties", all.agreement_without_ties()},
          {"disagreements", all.disagreements()},
          {"disagreements_at_ties", all.disagreements_at_ties()},
          {"median_margin", all.margin_quantile(0.5)},
          {"median_margin_of_disagreements", all.disagreement_margin_quantile(0.5)},
          {"largest_margin_of_disagreements", all.disagreement_margin_quantile(1)}};
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

base::Result<void> measure(const Flags& flags) {
  TM_TRY(const auto isa, tensor::choose_isa());
  const auto device = tensor::make_cpu_device(isa, flags.threads);
  TM_TRY(const auto file, model::Checkpoint::open(flags.model));
  evaluate::SubjectOptions options;
  options.kv_type = *tensor::parse_kv_type(flags.kv_type);  // checked by main
  TM_TRY(auto quantised, evaluate::Subject::load(file, *device, options));
  options.plain = true;
  TM_TRY(auto plain, evaluate::Subject::load(file, *device, options));
  TM_TRY(const Tokens tokens, read_tokens(quantised, flags));
  evaluate::TextOptions cuts;
  cuts.window = flags.window;
  cuts.stride = flags.window;
  cuts.tie = flags.tie;
  TM_TRY(const auto judged, evaluate::judge_tokens(quantised, &plain, tokens, cuts));
  if (!flags.windows_out.empty()) {
    TM_CHECK(base::write_file(flags.windows_out, base::json::serialize(windows_json(quantised, tokens, flags.window))));
  }
  base::json::object result = summarize(*judged.comparison);
  result["model"] = flags.model;
  result["device"] = device->description();
  result["kv_type"] = flags.kv_type;
  if (!flags.random) {
    result["perplexity"] = judged.score.perplexity();
    result["reference_perplexity"] = judged.reference->perplexity();
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
