// Packed files: they compute what their sources compute, and whatever is wrong with one is said.
#include "model/packed_file.hpp"

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "gguf_bytes.hpp"
#include "model/gguf_writer.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "small_disk.hpp"
#include "temporary_folder.hpp"
#include "tensor/isa.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void write(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

base::Result<std::unique_ptr<Model>> load(const std::filesystem::path& path, tensor::Device& device) {
  TM_TRY(const GgufFile file, GgufFile::open(path));
  return load_model(file, device, {.max_batch_rows = 8, .on_progress = {}});
}

std::vector<Token> some_tokens() {
  std::vector<Token> tokens;
  for (int i = 0; i < 21; ++i)
    tokens.push_back((i * 37 + 5) % 1000);
  return tokens;
}

// Logits of every position on one instruction set.
std::vector<std::vector<float>> logits(const std::filesystem::path& path, tensor::Isa isa, int threads) {
  test::Loaded loaded;
  loaded.device = tensor::make_cpu_device(isa, threads);
  {
    auto file = GgufFile::open(path);
    if (!file) return ADD_FAILURE() << file.error().to_string(), std::vector<std::vector<float>>();
    auto model = load_model(*file, *loaded.device, {.max_batch_rows = 64, .on_progress = {}});
    if (!model) return ADD_FAILURE() << model.error().to_string(), std::vector<std::vector<float>>();
    loaded.model = std::move(*model);
  }  // the file is closed: a packed model lives on its map
  tensor::KvShape shape = loaded.model->kv_shape();
  shape.blocks = 2;
  loaded.cache = loaded.device->make_kv_cache(shape).value();
  return test::Sequence(loaded).append(some_tokens());
}

class Packing : public testing::TestWithParam<std::tuple<const char*, DType>> {};

TEST_P(Packing, ComputesTheSame) {
  const auto& [shape, type] = GetParam();
  const test::TemporaryFolder folder;
  const auto plain = folder.path() / "plain.gguf";
  const auto packed = folder.path() / "packed.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), plain, {.type = type, .on_progress = {}}));
  const GgufFile source = GgufFile::open(plain).value();
  size_t last = 0;
  const auto summary = pack_model(source, packed,
                                  {.threads = 2,
                                   .on_progress =
                                       [&](size_t done, size_t total) {
                                         EXPECT_GE(done, last);
                                         EXPECT_EQ(total, source.tensor_bytes());
                                         last = done;
                                       },
                                   .cancelled = {}});
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(last, source.tensor_bytes());
  EXPECT_EQ(summary->bytes, std::filesystem::file_size(packed));
  EXPECT_EQ(folder.entries(), 2);

  const auto file = GgufFile::open(packed);
  ASSERT_TRUE(file) << file.error().to_string();
  ASSERT_NE(file->packed(), nullptr);
  EXPECT_EQ(source.packed(), nullptr);
  EXPECT_EQ(file->packed()->source, "plain.gguf");
  EXPECT_EQ(file->packed()->source_bytes, source.file_bytes());
  EXPECT_EQ(file->packed()->layout, tensor::kPackedLayoutVersion);
  EXPECT_EQ(file->parameters(), source.parameters());
  size_t panels = 0;
  for (const GgufTensor& tensor : source.tensors()) {
    const GgufTensor* found = file->find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->type, tensor.type);
    EXPECT_EQ(found->shape_text(), tensor.shape_text());
    EXPECT_EQ(found->rank, tensor.rank);
    EXPECT_EQ(found->panels, tensor.rank >= 2 && !tensor.name.ends_with(".bias")) << tensor.name;
    panels += found->panels ? 1 : 0;
  }
  EXPECT_EQ(panels, summary->matrices);
  for (const GgufEntry& entry : source.metadata()) {
    const GgufValue* value = file->find(entry.key);
    ASSERT_NE(value, nullptr) << entry.key;
    EXPECT_EQ(value->type, entry.value.type);
    EXPECT_TRUE(std::equal(value->payload.begin(), value->payload.end(), entry.value.payload.begin(),
                           entry.value.payload.end()))
        << entry.key;
  }

  for (const tensor::Isa isa : tensor::available_isas())
    EXPECT_EQ(logits(packed, isa, 2), logits(plain, isa, 1)) << tensor::to_string(isa);
}

INSTANTIATE_TEST_SUITE_P(Types, Packing,
                         testing::Combine(testing::Values("llama-tiny", "qwen3-tiny", "qwen2moe-tiny", "gpt-oss-tiny",
                                                          "deepseek3-tiny"),
                                          testing::ValuesIn(tensor::all_dtypes().begin(), tensor::all_dtypes().end())),
                         [](const auto& instance) {
                           std::string name = std::string(std::get<0>(instance.param)) + "_" +
                                              std::string(tensor::info(std::get<1>(instance.param)).name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class PackedFile : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(write_synthetic_model(find_shape("llama-tiny").value(), plain_, {.on_progress = {}}));
    const auto summary = pack_model(GgufFile::open(plain_).value(), packed_, {});
    ASSERT_TRUE(summary) << summary.error().to_string();
    bytes_ = read(packed_);
    header_ = GgufFile::open(packed_).value().header_bytes();
  }

  // The error of loading `bytes`, which must have the code.
  std::string refusal(const std::string& bytes, ErrorCode code) {
    const auto path = folder_.path() / "damaged.gguf";
    write(path, bytes);
    const auto loaded = load(path, *device_);
    if (loaded) return "(accepted)";
    EXPECT_EQ(loaded.error().code(), code) << loaded.error().to_string();
    const std::string message = loaded.error().to_string();
    EXPECT_NE(message.find("damaged.gguf"), std::string::npos) << message;
    EXPECT_NE(message.find("tidemill pack"), std::string::npos) << message;
    return message;
  }

  // The file with some bytes of its header changed and the header signed again: what another writer could have made.
  std::string changed(std::string_view key, const std::function<void(char* value)>& change) {
    std::string bytes = bytes_;
    const size_t at = bytes.find(key);
    EXPECT_LT(at, header_);
    change(bytes.data() + at + key.size() + 4);
    sign_packed_header(std::as_writable_bytes(std::span(bytes)).first(header_));
    return bytes;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path plain_ = folder_.path() / "plain.gguf";
  std::filesystem::path packed_ = folder_.path() / "packed.gguf";
  std::string bytes_;
  size_t header_ = 0;
  std::unique_ptr<tensor::Device> device_ = tensor::make_cpu_device(tensor::Isa::scalar, 1);
};

void add_to_u32(char* at, uint32_t by) {
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  value += by;
  std::memcpy(at, &value, sizeof value);
}

TEST_F(PackedFile, IsAPlainGgufFileToOthers) {
  // Read byte by byte: magic, version, counts; the tensors of matrices are bytes in one dimension, aligned.
  EXPECT_EQ(bytes_.substr(0, 4), "GGUF");
  EXPECT_EQ(bytes_[4], 3);
  EXPECT_NE(bytes_.find("tidemill.panels.blk.0.attn_q.weight"), std::string::npos);
  EXPECT_EQ(header_ % 4096, 0U);
  // Under another first key it is no packed file, and its panels are of a type that models do not have.
  std::string other = bytes_;
  other[24 + 8] = 'T';
  const auto file = GgufFile::parse(test::as_bytes(other), "other.gguf");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(file.error().to_string(), "(I8)");
}

TEST_F(PackedFile, PanelsAreUsedWhereTheyLie) {
  const GgufFile file = GgufFile::open(packed_).value();
  const auto before = file.mapping().use_count();
  auto model = load_model(file, *device_, {.max_batch_rows = 8, .on_progress = {}});
  ASSERT_TRUE(model);
  EXPECT_EQ(file.mapping().use_count(), before + 1);
  model->reset();
  EXPECT_EQ(file.mapping().use_count(), before);
}

// The matrices of experts are one tensor, and any of them may be the damaged one.
TEST_F(PackedFile, DamagedExpertsAreFound) {
  const auto plain = folder_.path() / "mixture.gguf";
  const auto packed = folder_.path() / "packed-mixture.gguf";
  // Of the second, one thread or all look at the experts, as the load is asked to.
  for (const auto& [shape, type] : {std::pair("qwen3moe-tiny", DType::q8_0), std::pair("mixtral-tiny", DType::f32)}) {
    ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), plain, {.type = type, .on_progress = {}}));
    ASSERT_TRUE(pack_model(GgufFile::open(plain).value(), packed, {}));
    const std::string whole = read(packed);
    const GgufFile file = GgufFile::open(packed).value();
    const GgufTensor* experts = file.find_tensor("blk.1.ffn_up_exps.weight");
    ASSERT_NE(experts, nullptr);
    EXPECT_TRUE(experts->panels);
    const auto on_two_threads = [&](const std::filesystem::path& path) {
      return load_model(GgufFile::open(path).value(), *device_, {.max_batch_rows = 8, .on_progress = {}, .threads = 2});
    };
    EXPECT_TRUE(on_two_threads(packed));
    const auto begin = static_cast<size_t>(experts->data.data() - file.mapping()->bytes().data());
    for (const size_t at : {begin, begin + experts->data.size() / 2 + 5, begin + experts->data.size() - 1}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 4);
      const std::string said = refusal(damaged, ErrorCode::corrupt);
      EXPECT_SAYS(said, "'blk.1.ffn_up_exps.weight' is damaged");
      const auto loaded = on_two_threads(folder_.path() / "damaged.gguf");
      ASSERT_FALSE(loaded);
      EXPECT_EQ(loaded.error().to_string(), said);
    }
  }
}

// Panels would have rows of two experts: such matrices are kept as they are, and others of the file packed.
TEST_F(PackedFile, ExpertsOfOddSizesStayRows) {
  const auto plain = folder_.path() / "odd.gguf";
  const auto packed = folder_.path() / "packed-odd.gguf";
  Shape shape = find_shape("qwen3moe-tiny").value();
  shape.expert_feed_forward = 72;
  ASSERT_TRUE(write_synthetic_model(shape, plain, {.type = DType::bf16, .on_progress = {}}));
  ASSERT_TRUE(pack_model(GgufFile::open(plain).value(), packed, {}));
  const GgufFile file = GgufFile::open(packed).value();
  for (const auto& [name, panels] : {std::pair("gate", false), std::pair("up", false), std::pair("down", true)}) {
    const GgufTensor* experts = file.find_tensor(fmt::format("blk.1.ffn_{}_exps.weight", name));
    ASSERT_NE(experts, nullptr) << name;
    EXPECT_EQ(experts->rank, 3) << name;
    EXPECT_EQ(experts->panels, panels) << name;
  }
  EXPECT_EQ(logits(packed, tensor::Isa::scalar, 2), logits(plain, tensor::Isa::scalar, 1));
}

TEST_F(PackedFile, EveryFlippedBitOfTheHeaderIsFound) {
  // In the fixed first entries, other errors may come first; behind them it is always the checksum.
  const size_t prefix = bytes_.find("tidemill.packed.format");
  for (size_t at = 0; at < header_; at += at < 256 ? 1 : 97) {
    for (const int bit : {0, 7}) {
      std::string bytes = bytes_;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const auto file = GgufFile::parse(test::as_bytes(bytes), "damaged.gguf");
      ASSERT_FALSE(file) << "byte " << at;
      if (at >= prefix) EXPECT_SAYS(file.error().to_string(), "header or metadata are damaged");
    }
  }
  std::string bytes = bytes_;
  bytes[header_ - 200] = static_cast<char>(bytes[header_ - 200] ^ 4);
  EXPECT_SAYS(refusal(bytes, ErrorCode::corrupt), "header or metadata are damaged");
}

TEST_F(PackedFile, EveryTensorIsVerified) {
  const GgufFile file = GgufFile::open(packed_).value();
  const auto* begin = file.tensors()[0].data.data() - file.header_bytes();
  for (const GgufTensor& tensor : file.tensors()) {
    for (const size_t at : {size_t{0}, tensor.data.size() / 2, tensor.data.size() - 1}) {
      std::string bytes = bytes_;
      const size_t offset = static_cast<size_t>(tensor.data.data() - begin) + at;
      bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
      const std::string message = refusal(bytes, ErrorCode::corrupt);
      EXPECT_SAYS(message, std::string(tensor.name));
      EXPECT_SAYS(message, "checksum");
    }
  }
}

TEST_F(PackedFile, TruncationIsSaid) {
  for (const size_t length : {bytes_.size() - 4096, bytes_.size() / 2, header_ + 1, header_})
    EXPECT_SAYS(refusal(bytes_.substr(0, length), ErrorCode::corrupt), "(truncated?)");
  EXPECT_SAYS(refusal(bytes_.substr(0, header_ - 1), ErrorCode::corrupt), "(truncated?)");
  for (const size_t length : {0, 3, 23, 24, 60, 140}) {
    EXPECT_FALSE(GgufFile::parse(test::as_bytes(bytes_).first(length), "damaged.gguf")) << length;
  }
}

TEST_F(PackedFile, OtherVersionsAreRefusedAndStillListed) {
  const std::string newer_format = changed("tidemill.packed.format", [](char* value) { add_to_u32(value, 1); });
  const std::string message = refusal(newer_format, ErrorCode::unsupported);
  EXPECT_SAYS(message, "format 2");
  EXPECT_SAYS(message, "written by tidemill");
  for (const uint32_t by : {1U, ~0U}) {
    const std::string other_layout = changed("tidemill.packed.layout", [&](char* value) { add_to_u32(value, by); });
    EXPECT_SAYS(refusal(other_layout, ErrorCode::unsupported),
                "packed in layout " + std::to_string(tensor::kPackedLayoutVersion + by));
    const auto file = GgufFile::parse(test::as_bytes(other_layout), "other.gguf");
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->packed()->layout, tensor::kPackedLayoutVersion + by);
  }
}

TEST_F(PackedFile, KeysAndTensorsMustAgree) {
  const auto array_at = [](char* value, size_t index) { return value + 12 + index * 4; };
  const auto with = [&](std::string_view key, size_t index, uint32_t by) {
    return changed(key, [&](char* value) { add_to_u32(array_at(value, index), by); });
  };
  // The first tensor is the embedding, [width, vocabulary].
  EXPECT_SAYS(refusal(with("tidemill.packed.types", 0, 3000), ErrorCode::unsupported), "are of type 3008");
  EXPECT_SAYS(refusal(with("tidemill.packed.types", 0, ~7U), ErrorCode::corrupt), "does not fit F32");
  EXPECT_SAYS(refusal(with("tidemill.packed.types", 1, 1), ErrorCode::corrupt), "call it F16");
  EXPECT_SAYS(refusal(with("tidemill.packed.shapes", 0, 1), ErrorCode::corrupt), "does not fit");
  EXPECT_SAYS(refusal(with("tidemill.packed.shapes", 1, 16), ErrorCode::corrupt), "does not fit");
  EXPECT_SAYS(refusal(with("tidemill.packed.shapes", 1, 0x80000000U), ErrorCode::corrupt), "a matrix was expected");
  EXPECT_SAYS(refusal(with("tidemill.packed.shapes", 2, 1), ErrorCode::corrupt), "does not fit Q8_0 [256, 1024, 2]");
  EXPECT_SAYS(refusal(with("tidemill.packed.shapes", 4, 1), ErrorCode::corrupt), "the packed file's keys call it");
  EXPECT_SAYS(refusal(with("tidemill.packed.checksums", 0, 1), ErrorCode::corrupt), "token_embd.weight");
  EXPECT_SAYS(refusal(changed("general.alignment", [](char* value) { add_to_u32(value, 4096); }), ErrorCode::corrupt),
              "tidemill pack");
}

TEST_F(PackedFile, RefusesWhatIsPackedAlready) {
  const auto again = pack_model(GgufFile::open(packed_).value(), folder_.path() / "again.gguf", {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(again.error().to_string(), "packed already");
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "again.gguf"));
}

TEST_F(PackedFile, NeverReplacesItsSource) {
  const std::string before = read(plain_);
  const auto onto = pack_model(GgufFile::open(plain_).value(), plain_, {});
  ASSERT_FALSE(onto);
  EXPECT_EQ(onto.error().code(), ErrorCode::invalid_argument);
  std::filesystem::create_symlink(plain_, folder_.path() / "link.gguf");
  EXPECT_FALSE(pack_model(GgufFile::open(plain_).value(), folder_.path() / "link.gguf", {}));
  EXPECT_EQ(read(plain_), before);
}

TEST_F(PackedFile, LeavesNothingBehindWhenInterrupted) {
  const long before = folder_.entries();
  int asked = 0;
  PackOptions options;
  options.cancelled = [&] { return ++asked > 5; };
  const auto stopped = pack_model(GgufFile::open(plain_).value(), folder_.path() / "new.gguf", options);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
  EXPECT_EQ(folder_.entries(), before);
  // An older packed file stays as it was.
  EXPECT_FALSE(pack_model(GgufFile::open(plain_).value(), packed_, options));
  EXPECT_EQ(read(packed_), bytes_);
}

TEST_F(PackedFile, LeavesNothingBehindWhenTheDiskIsFull) {
  const long before = folder_.entries();
  const auto full = [&] {
    const test::SmallDisk disk;
    disk.end_at(4096 * 10);
    return pack_model(GgufFile::open(plain_).value(), folder_.path() / "new.gguf", {});
  }();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::io);
  EXPECT_SAYS(full.error().to_string(), "new.gguf");
  EXPECT_EQ(folder_.entries(), before);
}

TEST_F(PackedFile, RefusesWhatCouldNotRun) {
  std::string bytes = read(plain_);
  const size_t at = bytes.find("blk.0.attn_q.weight");
  bytes.replace(at, 5, "blk.9");
  write(plain_, bytes);
  const auto packed = pack_model(GgufFile::open(plain_).value(), folder_.path() / "new.gguf", {});
  ASSERT_FALSE(packed);
  EXPECT_SAYS(packed.error().to_string(), "'blk.0.attn_q.weight' is missing");
  const auto folder = pack_model(GgufFile::open(plain_).value(), folder_.path(), {});
  ASSERT_FALSE(folder);
}

TEST(Packed, RealModelIsBitIdentical) {
  const test::TemporaryFolder folder;
  const auto packed = folder.path() / "nano.gguf";
  ASSERT_TRUE(pack_model(GgufFile::open(test::nano_coder()).value(), packed, {}));
  EXPECT_EQ(logits(packed, tensor::available_isas().back(), 2),
            logits(test::nano_coder(), tensor::available_isas().back(), 1));
}

}  // namespace
}  // namespace tidemill::model
