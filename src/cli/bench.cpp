#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/clock.hpp"
#include "base/cpu_cache.hpp"
#include "base/json.hpp"
#include "base/memory.hpp"
#include "base/units.hpp"
#include "cli/command.hpp"
#include "cli/local_engine.hpp"
#include "cli/synthetic_context.hpp"
#include "tensor/ceilings.hpp"

namespace tidemill::cli {

namespace json = base::json;

namespace {

struct BenchFlags {
  LocalOptions local;
  int prefill = 512;
  int decode = 128;
  int context = 16;
  int streams = 1;
  int repeat = 3;
  bool synthetic_context = false;
  bool no_ceilings = false;
  bool as_json = false;
};

struct Measured {
  double prefill_tok_s = 0;
  double decode_tok_s = 0;
  double ttft_s = 0;
  // What the machine would allow: decode reads every weight, key and value once a step, prefill multiplies every weight
  // once a token, quantised ones in int8 and the others in floating point, each at its own ceiling. Measured beside
  // each round, because a shared machine's ceilings move. The time to the first token is that of a prefill, so that its
  // share is the prefill's. Loading reads every byte of the file once.
  std::optional<tensor::Ceilings> ceilings;
  double decode_of_bandwidth = 0;  // 0 .. 1; means nothing where what a step reads comes from a cache
  double step_bytes = 0;           // that a step of decoding reads
  size_t cache_bytes = 0;          // of the last level
  double prefill_of_compute = 0;
  double load_of_bandwidth = 0;
  // Bytes; resident is the most of all rounds.
  size_t resident = 0;
  size_t weights = 0;
  size_t kv = 0;
  size_t activations = 0;
  double over = 0;  // resident beyond weights and KV cache, as a share of those

  bool decodes_in_cache() const { return step_bytes <= static_cast<double>(cache_bytes); }
};

double now_s() {
  return base::seconds(base::SystemClock::instance().now().time_since_epoch());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Token ids that differ from request to request, so that nothing is found in a cache. Ordinary pieces only.
std::vector<text::Token> random_prompt(int64_t vocabulary, int length, uint64_t seed) {
  std::vector<text::Token> tokens;
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (int i = 0; i < length; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<text::Token>((state >> 33) % static_cast<uint64_t>(vocabulary)));
  }
  return tokens;
}

engine::Request make_request(const serve::LoadedModel& model, int prompt, int output, uint64_t seed) {
  engine::Request request;
  request.prompt = random_prompt(model.hyper_parameters().vocabulary, prompt, seed);
  request.max_tokens = output;
  request.ignore_eos = true;
  request.sampling.temperature = 0;
  return request;
}

// One prompt, one token: the time to it is the prefill's.
base::Result<double> time_prefill(LocalEngine& local, int prompt, uint64_t seed) {
  Interrupt interrupt;
  const double start = now_s();
  TM_TRY(const auto reason,
         local.run(make_request(local.model(), prompt, 1, seed), interrupt, [](const auto&) { return true; }));
  if (reason == engine::FinishReason::cancelled) return base::Error(base::ErrorCode::cancelled, "interrupted");
  return now_s() - start;
}

// `streams` requests at a time: tokens per second of all together, from when the last of them has its first token.
base::Result<double> time_decode(LocalEngine& local, const BenchFlags& flags, uint64_t seed) {
  Interrupt interrupt;
  std::vector<std::shared_ptr<engine::Stream>> streams;
  for (int i = 0; i < flags.streams; ++i) {
    auto request = make_request(local.model(), flags.context, flags.decode + 1, seed + static_cast<uint64_t>(i));
    TM_TRY(auto stream, local.engine().submit(std::move(request)));
    stream->on_ready([&interrupt] { interrupt.wake(); });
    streams.push_back(std::move(stream));
  }
  std::vector<int64_t> tokens(streams.size(), 0);
  const double submitted = now_s();
  double start = 0;
  int64_t counted_from = 0;
  while (!std::all_of(streams.begin(), streams.end(), [](const auto& stream) { return stream->ended(); })) {
    int64_t total = 0;
    for (size_t i = 0; i < streams.size(); ++i) {
      while (const auto event = streams[i]->try_next()) {
        if (event->error) return *event->error;
        tokens[i] += static_cast<int64_t>(event->tokens.size());
      }
      total += tokens[i];
    }
    if (start == 0 && std::all_of(tokens.begin(), tokens.end(), [](int64_t n) { return n > 0; })) {
      start = now_s();
      counted_from = total;
    }
    if (interrupt.raised()) return base::Error(base::ErrorCode::cancelled, "interrupted");
    if (!std::all_of(streams.begin(), streams.end(), [](const auto& stream) { return stream->ended(); }))
      interrupt.wait();
  }
  int64_t total = 0;
  for (const int64_t n : tokens)
    total += n;
  // So few tokens that they came all at once: then over the whole time, the prompt's included.
  if (total == counted_from) return static_cast<double>(total) / std::max(now_s() - submitted, 1e-9);
  return static_cast<double>(total - counted_from) / std::max(now_s() - start, 1e-9);
}

// The rounds of a benchmark, value by value.
struct Rounds {
  std::vector<double> ttft;
  std::vector<double> decode;
  std::vector<double> read;
  std::vector<double> int8;
  std::vector<double> floating;
  std::vector<double> decode_share;
  std::vector<double> prefill_share;
  size_t resident = 0;  // the most
};

tensor::KvType kv_type(const LocalEngine& local, const BenchFlags& flags) {
  return tensor::parse_kv_type(flags.local.kv_type).value_or(local.model().model().kv_shape().type);
}

// What a step of decoding reads: every weight once, and each stream's keys and values (half way through).
double step_bytes(const LocalEngine& local, const BenchFlags& flags) {
  const model::Model& model = local.model().model();
  tensor::KvShape kv = model.kv_shape();
  kv.type = kv_type(local, flags);
  const double token = static_cast<double>(tensor::kv_block_bytes(kv)) / static_cast<double>(tensor::kKvBlockTokens);
  const double tokens = flags.streams * (flags.context + flags.decode / 2.0);
  return static_cast<double>(model.step_weight_bytes()) + tokens * token;
}

// `synthetic`: null where contexts are computed.
base::Result<void> measure_round(LocalEngine& local, const BenchFlags& flags, SyntheticContext* synthetic,
                                 uint64_t seed, Rounds& rounds) {
  TM_TRY(const double first, time_prefill(local, flags.prefill, seed));
  rounds.ttft.push_back(first);
  double rate = 0;
  if (flags.decode > 0) {
    TM_TRY(rate, synthetic != nullptr ? synthetic->time_decode(flags.decode) : time_decode(local, flags, seed + 1));
    rounds.decode.push_back(rate);
  }
  rounds.resident =
      std::max(rounds.resident, base::resident_bytes());  // before the ceilings take memory for themselves
  if (flags.no_ceilings) return {};
  TM_TRY(const tensor::Ceilings ceilings, tensor::measure_ceilings(local.isa(), local.threads()));
  rounds.read.push_back(ceilings.read_bytes_per_s);
  rounds.int8.push_back(ceilings.int8_ops_per_s);
  rounds.floating.push_back(ceilings.float_ops_per_s);
  const model::Model& model = local.model().model();
  const double steps_per_s = rate / flags.streams;
  rounds.decode_share.push_back(steps_per_s * step_bytes(local, flags) / ceilings.read_bytes_per_s);
  const model::Multiplies multiplies = model.row_multiplies();
  const double least_s_per_token = 2 * static_cast<double>(multiplies.int8) / ceilings.int8_ops_per_s +
                                   2 * static_cast<double>(multiplies.floating) / ceilings.float_ops_per_s;
  rounds.prefill_share.push_back(least_s_per_token * flags.prefill / first);
  return {};
}

base::Result<Measured> measure(LocalEngine& local, const BenchFlags& flags) {
  TM_CHECK(time_prefill(local, std::min(flags.prefill, 32), 0));  // wakes the threads and touches every page
  std::unique_ptr<SyntheticContext> synthetic;
  if (flags.synthetic_context && flags.decode > 0) {
    TM_TRY(synthetic, SyntheticContext::make(local.model().model(), local.model().device(), kv_type(local, flags),
                                             flags.streams, flags.context, flags.decode));
  }
  Rounds rounds;
  for (int round = 0; round < flags.repeat; ++round) {
    TM_CHECK(measure_round(local, flags, synthetic.get(), static_cast<uint64_t>(1 + round * 1000), rounds));
  }
  Measured measured;
  measured.ttft_s = median(rounds.ttft);
  measured.prefill_tok_s = flags.prefill / measured.ttft_s;
  if (flags.decode > 0) measured.decode_tok_s = median(rounds.decode);
  if (!flags.no_ceilings) {
    measured.ceilings = tensor::Ceilings{median(rounds.read), median(rounds.int8), median(rounds.floating)};
    measured.decode_of_bandwidth = median(rounds.decode_share);
    measured.prefill_of_compute = median(rounds.prefill_share);
    const double least_load_s = static_cast<double>(local.model().file_bytes()) / measured.ceilings->read_bytes_per_s;
    measured.load_of_bandwidth = least_load_s / base::seconds(local.model().load_time());
  }
  measured.step_bytes = step_bytes(local, flags);
  measured.cache_bytes = base::last_level_cache_bytes();
  measured.resident = rounds.resident;
  measured.weights = local.model().model().weight_bytes();
  measured.kv = static_cast<size_t>(local.kv_bytes()) + (synthetic == nullptr ? 0 : synthetic->bytes());
  measured.activations = local.model().model().activation_bytes();
  const auto wanted = static_cast<double>(measured.weights + measured.kv);
  measured.over = (static_cast<double>(measured.resident) - wanted) / wanted;
  return measured;
}

// The ceiling that most of a prefill is held against, to be printed.
struct PrefillCeiling {
  std::string_view name;
  double ops_per_s = 0;
};

PrefillCeiling prefill_ceiling(const serve::LoadedModel& model, const tensor::Ceilings& ceilings) {
  const model::Multiplies multiplies = model.model().row_multiplies();
  const bool int8 = multiplies.int8 >= multiplies.floating;
  const tensor::Peak peak = int8 ? tensor::int8_peak(model.isa()) : tensor::float_peak(model.isa());
  return {tensor::peaks()[static_cast<size_t>(peak)].name, int8 ? ceilings.int8_ops_per_s : ceilings.float_ops_per_s};
}

// What decoding is held against.
void print_decode_ceiling(const Measured& measured) {
  if (!measured.ceilings) return;
  if (measured.decodes_in_cache()) {
    fmt::print("  in cache: {} a step, of {}", base::human_bytes(measured.step_bytes),
               base::human_bytes(static_cast<double>(measured.cache_bytes)));
  } else {
    fmt::print("  {:>5.1f} % of {:.1f} GB/s read", 100 * measured.decode_of_bandwidth,
               measured.ceilings->read_bytes_per_s / 1e9);
  }
}

void print_measured_text(const serve::LoadedModel& model, const BenchFlags& flags, const Measured& measured) {
  fmt::print("{} on {}\n", model.name(), model.device().description());
  fmt::print("  load              {:>10.2f} s    ", base::seconds(model.load_time()));
  if (measured.ceilings) {
    fmt::print("  {:>5.1f} % of {:.1f} GB/s read, ", 100 * measured.load_of_bandwidth,
               measured.ceilings->read_bytes_per_s / 1e9);
  }
  fmt::print("a file of {}\n", base::human_bytes(static_cast<double>(model.file_bytes())));
  fmt::print("  prefill {:>5}     {:>10.1f} tok/s", flags.prefill, measured.prefill_tok_s);
  if (measured.ceilings) {
    const PrefillCeiling ceiling = prefill_ceiling(model, *measured.ceilings);
    fmt::print("  {:>5.1f} % of {:.2f} Tops {}", 100 * measured.prefill_of_compute, ceiling.ops_per_s / 1e12,
               ceiling.name);
  }
  fmt::print("\n  first token       {:>10.3f} s    ", measured.ttft_s);
  if (measured.ceilings) {
    fmt::print("  {:>5.1f} %: {:.3f} s at that ceiling", 100 * measured.prefill_of_compute,
               measured.prefill_of_compute * measured.ttft_s);
  }
  fmt::print("\n");
  if (flags.decode > 0) {
    fmt::print("  decode {:>3} x {:<5} {:>9.1f} tok/s", flags.streams, flags.decode, measured.decode_tok_s);
    if (flags.context >= 1024) fmt::print(" at {}", flags.context);
    if (flags.synthetic_context) fmt::print(" (context not computed)");
    print_decode_ceiling(measured);
    fmt::print("\n");
  }
  const auto bytes = [](size_t count) { return base::human_bytes(static_cast<double>(count)); };
  fmt::print("  memory            {:>10}    resident: {} of weights, {} of KV cache, {:+.1f} % over these\n",
             bytes(measured.resident), bytes(measured.weights), bytes(measured.kv), 100 * measured.over);
}

void print_measured_json(const serve::LoadedModel& model, const BenchFlags& flags, const Measured& measured) {
  json::object body{{"model", model.name()},
                    {"device", model.device().description()},
                    {"prefill_tokens", flags.prefill},
                    {"decode_tokens", flags.decode},
                    {"context_tokens", flags.context},
                    {"context_synthetic", flags.synthetic_context},
                    {"streams", flags.streams},
                    {"prefill_tok_s", measured.prefill_tok_s},
                    {"decode_tok_s", measured.decode_tok_s},
                    {"load_s", base::seconds(model.load_time())},
                    {"ttft_s", measured.ttft_s},
                    {"rss_bytes", measured.resident},
                    {"weight_bytes", measured.weights},
                    {"kv_bytes", measured.kv},
                    {"activation_bytes", measured.activations},
                    {"memory_over_weights_and_kv", measured.over}};
  if (measured.ceilings) {
    body["ceilings"] = {{"read_bytes_per_s", measured.ceilings->read_bytes_per_s},
                        {"int8_ops_per_s", measured.ceilings->int8_ops_per_s},
                        {"float_ops_per_s", measured.ceilings->float_ops_per_s}};
    body["last_level_cache_bytes"] = measured.cache_bytes;
    body["decode_in_cache"] = measured.decodes_in_cache();
    body["decode_share_of_read_bandwidth"] =
        measured.decodes_in_cache() ? json::value(nullptr) : json::value(measured.decode_of_bandwidth);
    body["prefill_ceiling"] = prefill_ceiling(model, *measured.ceilings).name;
    body["prefill_share_of_ceiling"] = measured.prefill_of_compute;
    body["ttft_share_of_ceiling"] = measured.prefill_of_compute;
    body["load_share_of_read_bandwidth"] = measured.load_of_bandwidth;
  }
  fmt::print("{}\n", base::pretty_json(body));
}

base::Result<int> bench(BenchFlags flags) {
  flags.local.show_progress = !flags.as_json;
  flags.local.prefix_cache = false;
  flags.local.max_running = flags.streams;
  TM_TRY(const auto local, LocalEngine::load(flags.local));
  const int64_t context = local->model().hyper_parameters().context;
  if (flags.prefill + 1 > context || int64_t{flags.context} + flags.decode + 1 > context) {
    return base::Error(
        base::ErrorCode::invalid_argument,
        fmt::format("--prefill, and --context with --decode, must fit the model's context of {} tokens", context));
  }
  const int64_t decode_tokens =
      flags.synthetic_context ? 0
                              : int64_t{flags.streams} * (flags.context + flags.decode + 1 + tensor::kKvBlockTokens);
  TM_CHECK(local->start(std::max<int64_t>(flags.prefill + 1, decode_tokens)));
  TM_TRY(const Measured measured, measure(*local, flags));
  (flags.as_json ? print_measured_json : print_measured_text)(local->model(), flags, measured);
  return exit_success;
}

}  // namespace

void add_bench(CLI::App& app, Invocation& chosen) {
  auto* command =
      app.add_subcommand("bench", "Measure prefill, decode, load time and memory, beside this machine's ceilings");
  auto flags = std::make_shared<BenchFlags>();
  // A model of random weights soon repeats itself: with speculation its decoding would look faster than it is.
  flags->local.speculation = "off";
  add_local_flags(*command, flags->local, true);
  command->add_option("--prefill", flags->prefill, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--decode", flags->decode, "Tokens that each stream generates; 0 measures prefill alone")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  command->add_option("--context", flags->context, "Tokens that each stream holds before it decodes")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_flag("--synthetic-context", flags->synthetic_context,
                    "Do not compute the context but repeat the keys and values of its first tokens: for long ones. "
                    "Decodes without the engine, one model step a token");
  command->add_option("--streams", flags->streams, "Streams that decode at the same time")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  command->add_option("--repeat", flags->repeat, "Rounds; the medians are reported")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->add_flag("--no-ceilings", flags->no_ceilings, "Do not measure what the machine could do");
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->callback([=, &chosen] { chosen.body = [flags] { return bench(*flags); }; });
}

}  // namespace tidemill::cli
