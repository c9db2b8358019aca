// The determinism contract on the embedded model: the same requests, alone and together, chunked and whole, cold and
// cached, preempted, on one thread and on two, all give the same bits.
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.hpp"
#include "data.hpp"
#include "engine/engine.hpp"
#include "engine/reference.hpp"
#include "model/gguf.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::engine {
namespace {

struct RealRig {
  explicit RealRig(int threads, EngineOptions options = {}, int64_t blocks = 400) {
    const auto file = model::GgufFile::open(tidemill::test::nano_coder());
    EXPECT_TRUE(file) << file.error().to_string();
    auto vocabulary = model::read_vocabulary(*file);
    EXPECT_TRUE(vocabulary);
    tokenizer = text::Tokenizer::create(std::move(*vocabulary)).value();
    device = tensor::make_cpu_device(tensor::choose_isa().value(), threads);
    model = model::load_model(*file, *device, {.max_batch_rows = 512, .on_progress = {}}).value();
    auto shape = model->kv_shape();
    shape.type = options.kv_type;
    options.kv_bytes = blocks * static_cast<int64_t>(tensor::kv_block_bytes(shape));
    auto started = Engine::start(*model, *device, *tokenizer, options, tracer, metrics, clock);
    EXPECT_TRUE(started) << started.error().to_string();
    engine = std::move(*started);
  }

  Request request(const std::string& text, int max_tokens, uint64_t seed) {
    Request r;
    r.prompt = tokenizer->encode(text).value();
    r.max_tokens = max_tokens;
    r.sampling.seed = seed;
    r.sampling.temperature = seed % 3 == 0 ? 0.0f : 0.9f;
    r.sampling.top_p = seed % 2 == 0 ? 0.95f : 1.0f;
    r.logprobs = true;
    r.top_logprobs = 3;
    r.ignore_eos = true;
    r.echo = seed % 5 == 0;
    return r;
  }
  std::vector<Request> requests() {
    const std::string system = "# A module of small functions that are easy to test.\nimport os\nimport sys\n\n";
    std::vector<Request> all;
    for (int i = 0; i < 17; ++i) {
      std::string text = i % 2 == 0 ? system : "";
      for (int j = 0; j <= i % 5; ++j)
        text += "def function_" + std::to_string(i * j) + "(value):\n    return value\n\n";
      all.push_back(request(text, 20 + i % 5 * 6, static_cast<uint64_t>(i)));
    }
    return all;
  }

  std::vector<test::Answer> together() {
    std::vector<std::shared_ptr<Stream>> streams;
    for (Request& r : requests())
      streams.push_back(engine->submit(std::move(r)).value());
    std::vector<test::Answer> answers;
    for (const auto& stream : streams)
      answers.push_back(test::collect(*stream).choices[0]);
    const auto books = engine->check_books();
    EXPECT_TRUE(books) << books.error().to_string();
    return answers;
  }
  std::vector<test::Answer> one_by_one() {
    std::vector<test::Answer> answers;
    for (Request& r : requests())
      answers.push_back(test::collect(*engine->submit(std::move(r)).value()).choices[0]);
    return answers;
  }

  base::ManualClock clock;
  observe::Tracer tracer{clock};
  observe::Metrics metrics;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<tensor::Device> device;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<Engine> engine;
};

TEST(RealModel, TheSameBitsInEveryWayOfServing) {
  TM_SKIP_WITHOUT(tidemill::test::nano_coder());
  const auto expected = RealRig(1, {.step_tokens = 512, .prefix_cache = false}).one_by_one();
  ASSERT_EQ(expected.size(), 17u);
  for (const auto& answer : expected)
    EXPECT_FALSE(answer.text.empty());
  const auto check = [&](const std::vector<test::Answer>& answers, const std::string& what) {
    ASSERT_EQ(answers.size(), expected.size());
    for (size_t i = 0; i < answers.size(); ++i)
      test::expect_same(answers[i], expected[i], what + " " + std::to_string(i));
  };
  RealRig two_threads(2);
  check(two_threads.together(), "seventeen together on two threads, cold");
  check(two_threads.together(), "the same from the prefix cache");
  EXPECT_GT(two_threads.engine->stats().prefix_hits, 0u);
  check(RealRig(1, {.step_tokens = 19, .max_running = 17}).together(), "small chunks");
  RealRig tiny(1, {.step_tokens = 64, .max_running = 17}, 14);
  check(tiny.together(), "with too few blocks");
  EXPECT_GT(tiny.engine->stats().preemptions, 0u);
}

TEST(RealModel, EmbeddingsDoNotDependOnChunks) {
  TM_SKIP_WITHOUT(tidemill::test::nano_coder());
  RealRig whole(1);
  RealRig chunked(2, {.step_tokens = 7, .max_running = 4});
  Request request = whole.request("def area(width, height):\n    return width * height\n", 0, 1);
  request.kind = Request::Kind::embed;
  const auto a = test::collect(*whole.engine->submit(request).value()).choices[0].embedding;
  const auto b = test::collect(*chunked.engine->submit(request).value()).choices[0].embedding;
  EXPECT_EQ(a.size(), static_cast<size_t>(whole.model->hyper_parameters().width));
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace tidemill::engine
