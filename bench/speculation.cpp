// Decoding with and without speculation on one model, in turns; outputs are compared token by token.
//
//   bench_speculation [--model FILE] [--text FILE] [--tokens N] [--rounds N] [--streams N] [--row-cost C] [CASE...]
//
// What speculation is worth depends on what is written, and a model of random weights writes nothing sensible. So in
// the scripted cases the model's layers and output matrix run in full, and then its logits are replaced by those of a
// model that writes a given text: the cost of every step is real, and so is the text; only the decision to write it is
// not the model's own. Texts are stretches of --text (Python, by default the shared held-out file) in tokens of
// nano-coder's vocabulary. Cases:
//
//   rewrite   the prompt's code again, with every sixteenth line changed
//   rename    the prompt's code again, with its most frequent name changed throughout (as far as --tokens reaches)
//   new       the code that follows the prompt in the file: what it repeats is what code repeats anyway
//   random    tokens without any pattern
//   misleads  random ones of sixteen: what they end with has always been there before, and says nothing of what follows
//   greedy    what the model itself writes after the prompt, at temperature 0
//   sampled   likewise at temperature 1
//
// "Between steps" is what the engine does from one decoding step's logits to the next one's batch, sampling included:
// where nothing is proposed, speculation costs what it adds to that. It is the median of every step of all rounds,
// which a busy machine moves far less than it moves tokens a second.
//
// With --row-cost time is simulated: a step of n rows takes 1 + C * (n - 1) milliseconds. The ratio is then the same on
// every machine, and says what guessing wrong costs where each further row costs a share C of a step. Scripted cases
// leave the model out; that leaves the engine's own instructions to be counted (callgrind).
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "engine/engine.hpp"
#include "model/gguf.hpp"
#include "model/vocabulary.hpp"
#include "serve/loaded_model.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using engine::Token;

namespace {

struct Flags {
  std::string model = "models/nano-coder.gguf";
  std::string text;
  int tokens = 160;
  int rounds = 3;
  int streams = 1;
  double row_cost = -1;  // negative: real time
  std::vector<std::string> cases;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// The model, and if there is a script, the decisions of another: after position p comes script[p + 1]. Keeps the time
// of decoding steps. Between runs, others may change and read what is public.
class Scripted final : public model::Model {
 public:
  Scripted(model::Model& inner, double row_cost) : inner_(inner), row_cost_(row_cost) {}
  std::vector<Token> script;    // empty: the model's own logits
  double simulated = 0;         // seconds of decoding steps
  std::vector<double> between;  // decoding steps, in microseconds of real time

  bool simulates() const { return row_cost_ >= 0; }
  const base::Clock& clock() const {
    if (simulates()) return simulated_;
    return base::SystemClock::instance();
  }
  void begin() {
    simulated = 0;
    between.clear();
    decoded_ = false;
  }

  const model::HyperParameters& hyper_parameters() const override { return inner_.hyper_parameters(); }
  tensor::KvShape kv_shape() const override { return inner_.kv_shape(); }
  size_t weight_bytes() const override { return inner_.weight_bytes(); }
  size_t activation_bytes() const override { return inner_.activation_bytes(); }
  size_t step_weight_bytes() const override { return inner_.step_weight_bytes(); }
  model::Multiplies row_multiplies() const override { return inner_.row_multiplies(); }

  model::Output forward(const model::Batch& batch, tensor::KvCache& cache) override {
    const bool decodes = batch.logit_rows.size() == batch.tokens.size();
    const base::SteadyTime entered = base::SystemClock::instance().now();
    if (decodes && decoded_) between.push_back(base::seconds(entered - left_) * 1e6);
    decoded_ = decodes;
    model::Output output;
    if (script.empty() || !simulates()) output = inner_.forward(batch, cache);
    if (!script.empty()) output.logits = scripted_logits(batch);
    if (simulates()) pass(std::ssize(batch.tokens), decodes);
    left_ = base::SystemClock::instance().now();
    return output;
  }

 private:
  tensor::ConstMatrix scripted_logits(const model::Batch& batch) {
    const int64_t cols = hyper_parameters().vocabulary;
    logits_.assign(batch.logit_rows.size() * static_cast<size_t>(cols), 0.0f);
    for (size_t i = 0; i < batch.logit_rows.size(); ++i) {
      const auto next = static_cast<size_t>(batch.positions[static_cast<size_t>(batch.logit_rows[i])]) + 1;
      if (next < script.size()) logits_[i * static_cast<size_t>(cols) + static_cast<size_t>(script[next])] = 1;
    }
    return {logits_.data(), std::ssize(batch.logit_rows), cols, cols};
  }

  void pass(int64_t rows, bool decodes) {
    const double seconds = 0.001 * (1 + row_cost_ * static_cast<double>(rows - 1));
    simulated_.advance(base::Duration(static_cast<int64_t>(seconds * 1e9)));
    if (decodes) simulated += seconds;
  }

  model::Model& inner_;
  const double row_cost_;
  base::ManualClock simulated_;
  std::vector<float> logits_;
  bool decoded_ = false;     // the step before, and nothing else
  base::SteadyTime left_{};  // when it ended
};

struct Case {
  std::vector<Token> prompt;
  std::vector<Token> script;  // prompt and output; empty: the model's own
  float temperature = 0;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);)
    lines.push_back(line + "\n");
  return lines;
}

std::string join(const std::vector<std::string>& lines, size_t begin, size_t end) {
  std::string text;
  for (size_t i = begin; i < std::min(end, lines.size()); ++i)
    text += lines[i];
  return text;
}

bool in_name(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The text with its most frequent name of at least five characters replaced.
std::string renamed(const std::string& text) {
  std::vector<std::string> parts;  // names, and what is between them
  for (const char c : text) {
    if (parts.empty() || !in_name(c) || !in_name(parts.back().back())) parts.emplace_back();
    parts.back() += c;
  }
  std::map<std::string, int> counts;
  for (const std::string& part : parts) {
    if (part.size() >= 5 && std::isalpha(static_cast<unsigned char>(part[0])) != 0 && part != "return") ++counts[part];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::string result;
  for (const std::string& part : parts)
    result += most != counts.end() && part == most->first ? "renamed_value" : part;
  return result;
}

// Every sixteenth line, from the ninth on, gets another line before it and is changed itself.
std::string rewritten(std::vector<std::string> lines) {
  for (size_t i = 8; i < lines.size(); i += 16) {
    const std::string indent = lines[i].substr(0, lines[i].find_first_not_of(" \n"));
    lines[i] = indent + "if not checked(value, limit=" + std::to_string(i) + "):\n" + indent + "    continue\n";
  }
  return join(lines, 0, lines.size());
}

class Cases {
 public:
  Cases(const text::Tokenizer& tokenizer, const std::string& text, const Flags& flags, int64_t vocabulary)
      : tokenizer_(tokenizer), lines_(lines_of(text)), flags_(flags), vocabulary_(vocabulary) {}

  base::Result<Case> make(const std::string& name) const {
    constexpr size_t kFirst = 200;
    constexpr size_t kLines = 60;
    const std::vector<std::string> before(lines_.begin() + kFirst, lines_.begin() + kFirst + kLines);
    const std::string prompt = join(before, 0, kLines);
    Case c;
    TM_TRY(c.prompt, tokenizer_.encode(prompt));
    if (name == "greedy" || name == "sampled") {
      c.temperature = name == "greedy" ? 0.0f : 1.0f;
      return c;
    }
    std::vector<Token> output;
    if (name == "random" || name == "misleads") {
      std::mt19937 random(1);
      const auto different = static_cast<unsigned>(name == "random" ? vocabulary_ : 16);
      for (int i = 0; i < flags_.tokens; ++i)
        output.push_back(static_cast<Token>(random() % different));
    } else if (name == "rewrite") {
      TM_TRY(output, tokenizer_.encode(rewritten(before)));
    } else if (name == "rename") {
      TM_TRY(output, tokenizer_.encode(renamed(prompt)));
    } else if (name == "new") {
      TM_TRY(output, tokenizer_.encode(join(lines_, kFirst + kLines, kFirst + 3 * kLines)));
    } else {
      return base::Error(base::ErrorCode::invalid_argument,
                         "no case '" + name + "': there are rewrite, rename, new, random, misleads, greedy, sampled");
    }
    output.resize(std::min(output.size(), static_cast<size_t>(flags_.tokens)));
    c.script = c.prompt;
    c.script.insert(c.script.end(), output.begin(), output.end());
    return c;
  }

 private:
  const text::Tokenizer& tokenizer_;
  std::vector<std::string> lines_;
  const Flags& flags_;
  int64_t vocabulary_;
};

struct Run {
  double seconds = 0;           // from the last stream's first tokens to the end; simulated: of all steps that decode
  int64_t tokens = 0;           // in that time
  std::vector<double> between;  // steps, in microseconds
  std::vector<std::vector<Token>> output;
};

base::Result<Run> run(engine::Engine& engine, Scripted& model, const Case& c, const Flags& flags) {
  model.begin();
  engine::Request request;
  request.prompt = c.prompt;
  request.ignore_eos = true;
  request.max_tokens = c.script.empty() ? flags.tokens : static_cast<int>(c.script.size() - c.prompt.size());
  request.sampling.temperature = c.temperature;
  std::vector<std::shared_ptr<engine::Stream>> streams;
  Run result;
  for (int i = 0; i < flags.streams; ++i) {
    request.sampling.seed = static_cast<uint64_t>(i);
    TM_TRY(auto stream, engine.submit(request));
    streams.push_back(std::move(stream));
  }
  result.output.resize(streams.size());
  const auto take = [&](size_t i) -> base::Result<void> {
    if (const auto event = streams[i]->next()) {
      if (event->error) return *event->error;
      result.output[i].insert(result.output[i].end(), event->tokens.begin(), event->tokens.end());
    }
    return {};
  };
  for (size_t i = 0; i < streams.size(); ++i)
    TM_CHECK(take(i));
  const base::SteadyTime start = base::SystemClock::instance().now();
  for (const auto& output : result.output) {
    if (!model.simulates()) result.tokens -= std::ssize(output);
  }
  for (size_t i = 0; i < streams.size(); ++i) {
    while (!streams[i]->ended())
      TM_CHECK(take(i));
  }
  for (const auto& output : result.output)
    result.tokens += std::ssize(output);
  const double passed = base::seconds(base::SystemClock::instance().now() - start);
  result.seconds = model.simulates() ? model.simulated : passed;
  result.between = std::move(model.between);
  return result;
}

class Bench {
 public:
  Bench(serve::LoadedModel& loaded, const Flags& flags)
      : loaded_(loaded), scripted_(loaded.model(), flags.row_cost), flags_(flags) {}

  base::Result<void> start(int64_t kv_tokens) {
    for (const auto mode : {engine::Speculation::off, engine::Speculation::prompt_lookup}) {
      engine::EngineOptions options;
      tensor::KvShape shape = scripted_.kv_shape();
      shape.type = options.kv_type;
      options.kv_bytes = (kv_tokens / tensor::kKvBlockTokens + 2) * static_cast<int64_t>(tensor::kv_block_bytes(shape));
      options.speculation.mode = mode;
      TM_TRY(auto engine, engine::Engine::start(scripted_, loaded_.device(), loaded_.tokenizer(), options, tracer_,
                                                metrics_, scripted_.clock()));
      engines_.push_back(std::move(engine));
    }
    return {};
  }

  base::Result<void> measure(const std::string& name, const Case& c) {
    scripted_.script = c.script;
    std::vector<double> rates[2];
    std::vector<double> between[2];
    std::vector<double> ratios;
    const engine::EngineStats before = engines_[1]->stats();
    TM_CHECK(run(*engines_[0], scripted_, c, flags_));  // the prompt enters the caches, and what rows cost is learned
    TM_CHECK(run(*engines_[1], scripted_, c, flags_));
    for (int round = 0; round < flags_.rounds; ++round) {
      Run runs[2];
      for (int i = 0; i < 2; ++i) {
        const int which = (i + round) % 2;
        TM_TRY(runs[which], run(*engines_[static_cast<size_t>(which)], scripted_, c, flags_));
      }
      for (int i = 0; i < 2; ++i) {
        rates[i].push_back(static_cast<double>(runs[i].tokens) / runs[i].seconds);
        between[i].insert(between[i].end(), runs[i].between.begin(), runs[i].between.end());
      }
      ratios.push_back(rates[1].back() / rates[0].back());
      if (runs[0].output != runs[1].output) return base::Error(base::ErrorCode::internal, name + ": outputs differ");
    }
    const engine::EngineStats after = engines_[1]->stats();
    std::ranges::sort(ratios);
    fmt::print(
        "{:8} off {:7.1f} tok/s   on {:7.1f} tok/s   ratio {:.3f} ({:.2f} to {:.2f})   accepted {} of {}   "
        "between steps {:.1f} and {:.1f} us\n",
        name, median(rates[0]), median(rates[1]), median(ratios), ratios.front(), ratios.back(),
        after.accepted_tokens - before.accepted_tokens, after.proposed_tokens - before.proposed_tokens,
        median(between[0]), median(between[1]));
    std::fflush(stdout);
    return {};
  }

 private:
  serve::LoadedModel& loaded_;
  Scripted scripted_;
  const Flags& flags_;
  observe::Tracer tracer_{base::SystemClock::instance(), 64};
  observe::Metrics metrics_;
  std::vector<std::unique_ptr<engine::Engine>> engines_;  // without and with; last: they use all of the above
};

base::Result<void> bench(const Flags& flags) {
  TM_TRY(const std::string text, base::read_file(flags.text));
  TM_TRY(const model::GgufFile coder, model::GgufFile::open("models/nano-coder.gguf"));
  TM_TRY(auto vocabulary, model::read_vocabulary(coder));
  TM_TRY(const auto tokenizer, text::Tokenizer::create(std::move(vocabulary)));
  serve::ModelOptions options;
  options.path = flags.model;
  TM_TRY(const auto loaded, serve::LoadedModel::load(options));
  fmt::print("{} on {}, {} stream(s) of {} tokens, {} rounds in turn\n", loaded->name(), loaded->device().description(),
             flags.streams, flags.tokens, flags.rounds);
  const Cases cases(*tokenizer, text, flags, loaded->hyper_parameters().vocabulary);
  Bench bench(*loaded, flags);
  TM_CHECK(bench.start(int64_t{flags.streams} * (flags.tokens + 2048)));
  for (const std::string& name : flags.cases) {
    TM_TRY(const Case c, cases.make(name));
    TM_CHECK(bench.measure(name, c));
  }
  return {};
}

Flags parse(int argc, char** argv) {
  Flags flags;
  const char* data = std::getenv("TIDEMILL_DATA");  // NOLINT(concurrency-mt-unsafe): one thread
  flags.text = std::string(data != nullptr ? data : "../shared/data") + "/eval/python-heldout.txt";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (word.starts_with("--")) ++i;
    if (word == "--model") {
      flags.model = value;
    } else if (word == "--text") {
      flags.text = value;
    } else if (word == "--tokens") {
      flags.tokens = std::clamp(std::atoi(value), 2, 100'000);
    } else if (word == "--rounds") {
      flags.rounds = std::clamp(std::atoi(value), 1, 1000);
    } else if (word == "--row-cost") {
      flags.row_cost = std::clamp(std::atof(value), 0.0, 10.0);
    } else if (word == "--streams") {
      flags.streams = std::clamp(std::atoi(value), 1, 64);
    } else {
      flags.cases.push_back(word);
    }
  }
  if (flags.cases.empty()) flags.cases = {"rewrite", "rename", "new", "random", "misleads", "greedy", "sampled"};
  return flags;
}

}  // namespace

int main(int argc, char** argv) {
  const auto done = bench(parse(argc, argv));
  if (!done) fmt::print(stderr, "{}\n", done.error().to_string());
  return done ? 0 : 1;
}
