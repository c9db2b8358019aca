// The options and what is made of them.
#include <filesystem>
#include <regex>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "data.hpp"
#include "live_server.hpp"
#include "serve/serve_options.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

TEST(ServeOptions, ComeFromFlagsEnvironmentAndAliases) {
  serve::ServeOptions options;
  base::ConfigSchema schema;
  serve::register_options(schema, options);
  base::ConfigSources sources;
  sources.flags = {{"--port", "0"},
                   {"--model", "a.gguf"},
                   {"--served-model-name", "tide"},
                   {"--engine.kv-type", "bf16"},
                   {"--kv-memory", "2GiB"}};
  sources.environment = {{"TIDEMILL_SERVER_HOST", "0.0.0.0"}, {"TIDEMILL_ISA", "scalar"}};
  const auto loaded = schema.load(sources);
  ASSERT_TRUE(loaded) << loaded.error().to_string();
  EXPECT_EQ(options.port, 0);
  EXPECT_EQ(options.host, "0.0.0.0");
  EXPECT_EQ(options.model_path, "a.gguf");
  EXPECT_EQ(options.model_name, "tide");
  EXPECT_EQ(options.kv_memory.bytes, uint64_t{2} << 30);
}

// What docs, scripts and tests of this repository have people export must not keep the program from starting.
TEST(ServeOptions, PassOverWhatTestsAndScriptsAreTold) {
  const std::regex read(R"((?:process\.env\.|getenv\("|\$\{|export )(TIDEMILL_[A-Z_]+))");
  std::set<std::string> names = {"TIDEMILL_CONFIG"};
  for (const char* folder : {"scripts", "tests/e2e", "tests/peers", "tests/fuzz"}) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string kind = entry.path().extension().string();
      if (kind != ".mjs" && kind != ".sh" && kind != ".cpp") continue;
      const auto text = base::read_file(entry.path(), size_t{1} << 20);
      ASSERT_TRUE(text) << entry.path();
      for (std::sregex_iterator each(text->begin(), text->end(), read), end; each != end; ++each)
        names.insert((*each)[1].str());
    }
  }
  EXPECT_TRUE(names.contains("TIDEMILL_PROGRAM"));
  EXPECT_TRUE(names.contains("TIDEMILL_SCHEMAS"));
  for (const std::string& name : names) {
    serve::ServeOptions options;
    base::ConfigSchema schema;
    serve::register_options(schema, options);
    EXPECT_TRUE(schema.load({.file = {}, .environment = {{name, "anything"}}, .flags = {}})) << name;
  }
}

TEST(ServeOptions, KvTypeReachesTheEngine) {
  const auto model = test::load_nano_coder(test::small_options());
  for (const tensor::KvType type :
       {tensor::KvType::f32, tensor::KvType::f16, tensor::KvType::bf16, tensor::KvType::int8}) {
    serve::ServeOptions options;
    base::ConfigSchema schema;
    serve::register_options(schema, options);
    base::ConfigSources sources;
    sources.flags = {{"--kv-type", std::string(tensor::to_string(type))}};  // as other commands call it
    const auto loaded = schema.load(sources);
    ASSERT_TRUE(loaded) << loaded.error().to_string();
    EXPECT_EQ(serve::engine_options(options, *model, size_t{1} << 34).kv_type, type);
  }
}

TEST(ServeOptions, ActivationsReachTheDevice) {
  for (const auto& [word, scheme] :
       {std::pair{"dynamic", tensor::ActivationScheme::dynamic}, {"f32", tensor::ActivationScheme::f32}}) {
    serve::ServeOptions options = test::small_options();
    base::ConfigSchema schema;
    serve::register_options(schema, options);
    ASSERT_TRUE(schema.load({.file = {}, .environment = {{"TIDEMILL_MODEL_ACTIVATIONS", word}}, .flags = {}}));
    const auto model = test::load_nano_coder(options);
    ASSERT_TRUE(model);
    EXPECT_EQ(model->device().activations(), scheme);
  }
}

TEST(ServeOptions, RefuseWhatIsOutOfBounds) {
  for (const auto& [flag, value] : std::vector<std::pair<std::string, std::string>>{{"--port", "65536"},
                                                                                    {"--engine.step-tokens", "0"},
                                                                                    {"--engine.kv-type", "f8"},
                                                                                    {"--activations", "int8"},
                                                                                    {"--threads", "-1"}}) {
    serve::ServeOptions options;
    base::ConfigSchema schema;
    serve::register_options(schema, options);
    base::ConfigSources sources;
    sources.flags = {{flag, value}};
    EXPECT_FALSE(schema.load(sources)) << flag << " " << value;
  }
}

TEST(ServeOptions, WhatIsPrintedCanBeReadBack) {
  serve::ServeOptions options;
  base::ConfigSchema schema;
  serve::register_options(schema, options);
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "tidemill.toml";
  ASSERT_TRUE(base::write_file(path, schema.dump()));
  base::ConfigSources sources;
  sources.file = path;
  const auto loaded = schema.load(sources);
  EXPECT_TRUE(loaded) << loaded.error().to_string();
}

// A name stands in answers and on terminals; a file's may be any bytes.
TEST(ServeOptions, TheNameOfAModelCanBePrinted) {
  const test::TemporaryFolder folder;
  const auto odd = folder.path() / "we\x1b[31m\xffird.gguf";
  std::filesystem::create_symlink(std::filesystem::absolute(test::nano_coder()), odd);
  serve::ServeOptions options = test::small_options();
  options.model_path = odd.string();
  const auto model = test::load_nano_coder(options);
  ASSERT_TRUE(model);
  EXPECT_EQ(model->name(), "we\xEF\xBF\xBD[31m\xEF\xBF\xBDird");
  EXPECT_TRUE(model->answers_to(model->name()));

  options.model_name = "a\nb";
  const auto refused = serve::LoadedModel::load(serve::model_options(options));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::invalid_argument);
  EXPECT_EQ(refused.error().param(), "model.name");
}

TEST(ServeOptions, KvMemoryIsChosenByModelAndMachine) {
  serve::ServeOptions options = test::small_options();
  options.kv_memory = base::ByteSize{0};
  const auto model = test::load_nano_coder(options);
  tensor::KvShape block = model->model().kv_shape();
  block.blocks = 1;
  const auto one = static_cast<int64_t>(tensor::kv_block_bytes(block)) * (4096 / tensor::kKvBlockTokens + 1);
  // Plenty of memory: what the sequences can use and no more.
  EXPECT_EQ(serve::engine_options(options, *model, size_t{1} << 44).kv_bytes, one * options.max_running);
  // Little: a quarter, but one whole sequence if half of it is enough.
  const size_t some = static_cast<size_t>(one) * 40;
  EXPECT_EQ(serve::engine_options(options, *model, some).kv_bytes, one * 10);
  EXPECT_EQ(serve::engine_options(options, *model, static_cast<size_t>(one) * 3).kv_bytes, one);
  EXPECT_EQ(serve::engine_options(options, *model, static_cast<size_t>(one)).kv_bytes, one / 2);
  // Said outright: that.
  options.kv_memory = base::ByteSize{12345678};
  EXPECT_EQ(serve::engine_options(options, *model, some).kv_bytes, 12345678);
}

}  // namespace
}  // namespace tidemill
