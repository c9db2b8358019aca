#include "model/gguf.hpp"

#include <limits>

#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "data.hpp"
#include "expect_says.hpp"
#include "gguf_bytes.hpp"
#include "model/gguf_json.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::Bytes;
using test::RawTensor;

constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

base::Result<GgufFile> parse(const std::string& bytes) {
  return GgufFile::parse(test::as_bytes(bytes), "model.gguf");
}

// The message of the error that `bytes` must give.
std::string refusal(const std::string& bytes, ErrorCode code = ErrorCode::corrupt) {
  const auto file = parse(bytes);
  if (file) return "(accepted)";
  EXPECT_EQ(file.error().code(), code) << file.error().message();
  EXPECT_EQ(file.error().message().substr(0, 12), "model.gguf: ");
  return file.error().message();
}

// One entry of every type, an array of each kind, and two tensors.
std::string good_file() {
  Bytes m;
  m.string("u8").put<uint32_t>(0).put<uint8_t>(200);
  m.string("i8").put<uint32_t>(1).put<int8_t>(-5);
  m.string("u16").put<uint32_t>(2).put<uint16_t>(60000);
  m.string("i16").put<uint32_t>(3).put<int16_t>(-300);
  m.string("u32").put<uint32_t>(4).put<uint32_t>(4000000000U);
  m.string("i32").put<uint32_t>(5).put<int32_t>(-7);
  m.string("f32").put<uint32_t>(6).put<float>(1.5F);
  m.string("bool").put<uint32_t>(7).put<uint8_t>(1);
  m.string("string").put<uint32_t>(kString).string("hello");
  m.string("u64").put<uint32_t>(10).put<uint64_t>(uint64_t{1} << 63);
  m.string("i64").put<uint32_t>(11).put<int64_t>(-9);
  m.string("f64").put<uint32_t>(12).put<double>(0.25);
  m.string("strings").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(3).string("a").string("").string(
      "ccc");
  m.string("floats").put<uint32_t>(kArray).put<uint32_t>(6).put<uint64_t>(2).put(2.5F).put(-1.0F);
  m.string("ints").put<uint32_t>(kArray).put<uint32_t>(3).put<uint64_t>(2).put<int16_t>(-1).put<int16_t>(2);
  m.string("empty").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(0);
  m.string("nested").put<uint32_t>(kArray).put<uint32_t>(kArray).put<uint64_t>(2);
  m.put<uint32_t>(4).put<uint64_t>(1).put<uint32_t>(9);
  m.put<uint32_t>(kString).put<uint64_t>(1).string("deep");
  std::string data(64 + 34 * 2, '\x11');
  return test::gguf_file(17, m, {{"plain", {4, 2}, 0, 0}, {"blocks", {32, 2}, 8, 64}}, data);
}

TEST(Gguf, MetadataAsJsonKeepTheirTypes) {
  const std::string bytes = good_file();
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message();
  const auto shown = [&](std::string_view key) { return base::json::serialize(to_json(*file->find(key))); };
  EXPECT_EQ(shown("u8"), "200");
  EXPECT_EQ(shown("i8"), "-5");
  EXPECT_EQ(shown("u16"), "60000");
  EXPECT_EQ(shown("i16"), "-300");
  EXPECT_EQ(shown("u32"), "4000000000");
  EXPECT_EQ(shown("i32"), "-7");
  EXPECT_EQ(shown("u64"), "9223372036854775808");
  EXPECT_EQ(shown("i64"), "-9");
  EXPECT_EQ(to_json(*file->find("f32")).to_number<double>(), 1.5);
  EXPECT_EQ(to_json(*file->find("f64")).to_number<double>(), 0.25);
  EXPECT_EQ(shown("bool"), "true");
  EXPECT_EQ(shown("string"), R"("hello")");
  EXPECT_EQ(shown("strings"), R"(["a","","ccc"])");
  EXPECT_EQ(shown("ints"), "[-1,2]");
  EXPECT_EQ(shown("empty"), "[]");
  EXPECT_EQ(shown("nested"), R"({"type":"array","count":2,"first":[]})");
  EXPECT_EQ(to_json(*file->find("floats")).at(1).to_number<double>(), -1.0);
}

TEST(Gguf, MetadataAsJsonAreJsonWhateverTheyHold) {
  Bytes m;
  m.string("small").put<uint32_t>(6).put<float>(1e-5F);
  m.string("infinite").put<uint32_t>(6).put<float>(std::numeric_limits<float>::infinity());
  m.string("none").put<uint32_t>(12).put<double>(std::numeric_limits<double>::quiet_NaN());
  m.string("bytes").put<uint32_t>(kString).string("we\x1b\xffird");
  m.string("long").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(33);
  for (int i = 0; i < 33; ++i)
    m.string(i == 1 ? "\xff" : "x");
  const std::string bytes = test::gguf_file(5, m, {}, {});
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(to_json(*file->find("small")), base::json::value(1e-5)) << "and not what the float is as a double";
  EXPECT_TRUE(to_json(*file->find("infinite")).is_null());
  EXPECT_TRUE(to_json(*file->find("none")).is_null());
  EXPECT_EQ(to_json(*file->find("bytes")), base::json::value("we\x1b\xEF\xBF\xBDird"));
  const base::json::value cut = to_json(*file->find("long"));
  EXPECT_EQ(cut.at("type"), "string");
  EXPECT_EQ(cut.at("count"), 33);
  EXPECT_EQ(base::json::serialize(cut.at("first")), "[\"x\",\"\xEF\xBF\xBD\",\"x\",\"x\",\"x\",\"x\",\"x\",\"x\"]");
}

TEST(Gguf, ReadsEveryTypeOfMetadata) {
  const std::string bytes = good_file();
  const auto parsed = parse(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message();
  const GgufFile& file = *parsed;
  EXPECT_EQ(file.version(), 3U);
  EXPECT_EQ(file.alignment(), 32U);
  EXPECT_EQ(file.metadata().size(), 17U);
  EXPECT_EQ(file.get_int("u8").value(), 200);
  EXPECT_EQ(file.get_int("i8").value(), -5);
  EXPECT_EQ(file.get_int("u16").value(), 60000);
  EXPECT_EQ(file.get_int("i16").value(), -300);
  EXPECT_EQ(file.get_u32("u32").value(), 4000000000U);
  EXPECT_EQ(file.get_int("i32").value(), -7);
  EXPECT_EQ(file.get_int("i64").value(), -9);
  EXPECT_EQ(file.get_float("f32").value(), 1.5);
  EXPECT_EQ(file.get_float("f64").value(), 0.25);
  EXPECT_EQ(file.get_float("u8").value(), 200.0);
  EXPECT_TRUE(file.get_bool("bool").value());
  EXPECT_EQ(file.get_string("string").value(), "hello");
  EXPECT_EQ(file.get_strings("strings").value(), (std::vector<std::string_view>{"a", "", "ccc"}));
  EXPECT_EQ(file.get_floats("floats").value(), (std::vector<float>{2.5F, -1.0F}));
  EXPECT_EQ(file.get_ints("ints").value(), (std::vector<int32_t>{-1, 2}));
  EXPECT_TRUE(file.get_strings("empty").value().empty());
  EXPECT_EQ(file.find("strings")->describe(), R"(array of 3 string ["a", "", "ccc"])");
  EXPECT_EQ(file.find("nested")->describe(), "array of 2 array");
  EXPECT_EQ(file.find("i8")->describe(), "-5");
  EXPECT_EQ(file.find("u64")->describe(), "9223372036854775808");
  EXPECT_EQ(file.find("bool")->describe(), "true");
}

TEST(Gguf, ReadsTensors) {
  const std::string bytes = good_file();
  const auto file = parse(bytes);
  ASSERT_TRUE(file);
  ASSERT_EQ(file->tensors().size(), 2U);
  const GgufTensor* blocks = file->find_tensor("blocks");
  ASSERT_NE(blocks, nullptr);
  EXPECT_EQ(blocks->type, tensor::DType::q8_0);
  EXPECT_EQ(blocks->cols(), 32);
  EXPECT_EQ(blocks->rows(), 2);
  EXPECT_EQ(blocks->data.size(), 68U);
  EXPECT_EQ(blocks->data.data() + blocks->data.size(), test::as_bytes(bytes).data() + bytes.size());
  EXPECT_EQ(blocks->shape_text(), "[32, 2]");
  EXPECT_EQ(file->find_tensor("none"), nullptr);
  EXPECT_EQ(file->parameters(), 72);
  EXPECT_EQ(file->tensor_bytes(), 100U);
}

// Numbers and sizes of GGUF's types, as the format's specification lists them.
TEST(Gguf, ReadsEveryTypeOfTensor) {
  struct Type {
    uint32_t number;
    std::string_view name;
    size_t bytes;  // of 256 elements
  };
  const std::vector<Type> types = {{0, "F32", 1024},  {1, "F16", 512},     {2, "Q4_0", 144},    {3, "Q4_1", 160},
                                   {6, "Q5_0", 176},  {7, "Q5_1", 192},    {8, "Q8_0", 272},    {10, "Q2_K", 84},
                                   {11, "Q3_K", 110}, {12, "Q4_K", 144},   {13, "Q5_K", 176},   {14, "Q6_K", 210},
                                   {30, "BF16", 512}, {20, "IQ4_NL", 144}, {23, "IQ4_XS", 136}, {39, "MXFP4", 136}};
  EXPECT_EQ(types.size(), tensor::all_dtypes().size());
  for (const Type& type : types) {
    const std::string data(type.bytes * 3, 'x');
    const std::string bytes = test::gguf_file(0, {}, {{"t", {256, 3}, type.number, 0}}, data);
    const auto file = parse(bytes);
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_EQ(tensor::info(file->tensors()[0].type).name, type.name);
    EXPECT_EQ(file->tensors()[0].data.size(), data.size()) << type.name;
    const std::string cut = bytes.substr(0, bytes.size() - 1);
    EXPECT_SAYS(refusal(cut), std::string(type.name) + " [256, 3]");
  }
  const std::string odd = test::gguf_file(0, {}, {{"t", {288}, 10, 0}}, std::string(256, 'x'));
  EXPECT_SAYS(refusal(odd), "not a multiple of Q2_K's block of 256");
}

TEST(Gguf, TypedGettersRefuseWhatDoesNotFit) {
  const std::string bytes = good_file();
  const auto file = parse(bytes);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->get_int("absent").error().code(), ErrorCode::not_found);
  EXPECT_SAYS(file->get_int("absent").error().message(), "'absent' is missing");
  EXPECT_EQ(file->get_int("u64").error().code(), ErrorCode::corrupt);
  EXPECT_FALSE(file->get_u32("i8"));
  EXPECT_FALSE(file->get_int("string"));
  EXPECT_FALSE(file->get_int("bool"));
  EXPECT_FALSE(file->get_int("ints"));
  EXPECT_FALSE(file->get_float("string"));
  EXPECT_FALSE(file->get_float("bool"));
  EXPECT_FALSE(file->get_bool("u8"));
  EXPECT_FALSE(file->get_string("u8"));
  EXPECT_SAYS(file->get_string("strings").error().message(), "array of 3 string");
  EXPECT_FALSE(file->get_strings("floats"));
  EXPECT_FALSE(file->get_strings("string"));
  EXPECT_FALSE(file->get_floats("strings"));
  EXPECT_FALSE(file->get_floats("nested"));
  EXPECT_FALSE(file->get_ints("floats"));
  EXPECT_SAYS(file->get_bytes("ints").error().message(), "expected an array of bytes");
  EXPECT_FALSE(file->get_bytes("string"));
  EXPECT_EQ(file->get_int_or("absent", 3).value(), 3);
  EXPECT_EQ(file->get_int_or("i8", 3).value(), -5);
  EXPECT_FALSE(file->get_int_or("string", 3));
  EXPECT_EQ(file->get_string_or("absent", "x").value(), "x");
  EXPECT_EQ(file->get_float_or("absent", 0.5).value(), 0.5);
  EXPECT_TRUE(file->get_bool_or("absent", true).value());
}

// Every cut of a valid file is refused: its last byte belongs to a tensor.
TEST(Gguf, RefusesEveryTruncation) {
  const std::string whole = good_file();
  for (size_t size = 0; size < whole.size(); ++size) {
    // A fresh allocation of exactly this size, so that AddressSanitizer sees any read past it.
    const std::string cut(whole.data(), size);
    const std::vector<char> exact(cut.begin(), cut.end());
    const auto file = GgufFile::parse(std::as_bytes(std::span(exact)), "model.gguf");
    ASSERT_FALSE(file) << "accepted the first " << size << " bytes";
    EXPECT_EQ(file.error().code(), ErrorCode::corrupt) << file.error().message();
  }
}

// Any damaged byte gives an error or another valid file, and every accessor stays inside the bytes.
TEST(Gguf, SurvivesEveryDamagedByte) {
  const std::string whole = good_file();
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff, whole[at] ^ 0x10}) {
      std::vector<char> damaged(whole.begin(), whole.end());
      damaged[at] = static_cast<char>(value);
      const auto file = GgufFile::parse(std::as_bytes(std::span(damaged)), "model.gguf");
      if (!file) continue;
      for (const GgufEntry& entry : file->metadata()) {
        (void)entry.value.describe();
        (void)file->get_strings(entry.key);
        (void)file->get_floats(entry.key);
        (void)file->get_ints(entry.key);
        (void)file->get_float(entry.key);
      }
      for (const GgufTensor& tensor : file->tensors()) {
        ASSERT_LE(tensor.data.data() + tensor.data.size(), std::as_bytes(std::span(damaged)).data() + damaged.size());
      }
    }
  }
}

TEST(Gguf, AcceptsVersion2AndFilesWithoutTensors) {
  const std::string bytes = test::gguf_file(1, Bytes().string("k").put<uint32_t>(4).put<uint32_t>(1), {}, "", 2);
  const auto file = parse(bytes);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->version(), 2U);
  EXPECT_TRUE(file->tensors().empty());
}

TEST(Gguf, NamesOtherFormats) {
  EXPECT_SAYS(refusal(""), "empty");
  EXPECT_SAYS(refusal(std::string("PK\x03\x04 and more", 13)), "begins with 'PK");
  EXPECT_SAYS(refusal("tjgg and more of it", ErrorCode::unsupported), "before GGUF");
  EXPECT_SAYS(refusal("PART and more of it"), "an unfinished file, which 'tidemill quantize' left");
  EXPECT_SAYS(refusal(test::gguf_file(0, {}, {}, "", 1), ErrorCode::unsupported), "version 1");
  EXPECT_SAYS(refusal(test::gguf_file(0, {}, {}, "", 4), ErrorCode::unsupported), "version 4");
  EXPECT_SAYS(refusal(test::gguf_file(0, {}, {}, "", 0x03000000), ErrorCode::unsupported), "big-endian");
}

TEST(Gguf, RefusesCountsTheFileCannotHold) {
  EXPECT_SAYS(refusal(Bytes().raw("GGUF").put<uint32_t>(3).put<uint64_t>(~uint64_t{0}).put<uint64_t>(0).text()),
              "18446744073709551615 tensors");
  EXPECT_SAYS(refusal(Bytes().raw("GGUF").put<uint32_t>(3).put<uint64_t>(0).put<uint64_t>(1000).text()),
              "1000 metadata");
  const auto array = [](uint32_t element, uint64_t count) {
    return test::gguf_file(
        1, Bytes().string("k").put<uint32_t>(kArray).put<uint32_t>(element).put<uint64_t>(count).raw("12345678"), {},
        "");
  };
  EXPECT_SAYS(refusal(array(0, 9)), "an array of 9 u8");
  EXPECT_SAYS(refusal(array(10, uint64_t{1} << 61)), "'k' announces an array");
  EXPECT_SAYS(refusal(array(kString, uint64_t{1} << 60)), "'k' announces an array");
  EXPECT_SAYS(refusal(array(kArray, uint64_t{1} << 60)), "'k' announces an array");
  EXPECT_SAYS(refusal(array(13, 0)), "value type 13");
  EXPECT_SAYS(refusal(test::gguf_file(1, Bytes().put<uint64_t>(~uint64_t{0}).raw("0123456789"), {}, "")), "truncated?");
}

TEST(Gguf, RefusesDeepNestingAndDuplicates) {
  Bytes deep;
  deep.string("deep").put<uint32_t>(kArray);
  for (int i = 0; i < 1000; ++i)
    deep.put<uint32_t>(kArray).put<uint64_t>(1);
  EXPECT_SAYS(refusal(test::gguf_file(1, deep, {}, "")), "'deep' nests arrays more than 4 deep");

  Bytes twice;
  for (int i = 0; i < 2; ++i)
    twice.string("key").put<uint32_t>(0).put<uint8_t>(1);
  EXPECT_SAYS(refusal(test::gguf_file(2, twice, {}, "")), "'key' appears twice");
  const std::string data(64, '\0');
  EXPECT_SAYS(refusal(test::gguf_file(0, {}, {{"t", {8}, 0, 0}, {"t", {8}, 0, 32}}, data)), "'t' appears twice");
}

TEST(Gguf, RefusesBadTensors) {
  const std::string data(128, '\0');
  const auto one = [&](const RawTensor& tensor) { return test::gguf_file(0, {}, {tensor}, data); };
  EXPECT_SAYS(refusal(one({"t", {}, 0, 0})), "'t' has 0 dimensions");
  EXPECT_SAYS(refusal(one({"t", {1, 1, 1, 1, 1}, 0, 0})), "'t' has 5 dimensions");
  EXPECT_SAYS(refusal(one({"t", {4, 0}, 0, 0})), "'t' has dimension 1 of extent 0");
  EXPECT_SAYS(refusal(one({"t", {uint64_t{1} << 40, uint64_t{1} << 40}, 0, 0})), "63 bits");
  EXPECT_SAYS(refusal(one({"t", {uint64_t{1} << 62}, 0, 0})), "too large");
  EXPECT_SAYS(refusal(one({"t", {uint64_t{1} << 63}, 0, 0})), "63 bits");
  EXPECT_SAYS(refusal(one({"t", {33}, 8, 0})), "not a multiple of Q8_0's block of 32");
  EXPECT_SAYS(refusal(one({"t", {8}, 0, 4})), "not a multiple of the file's alignment 32");
  EXPECT_SAYS(refusal(one({"t", {33}, 0, 0})), "passes the end");
  EXPECT_SAYS(refusal(one({"t", {8}, 0, ~uint64_t{31}})), "passes the end");
  EXPECT_SAYS(refusal(test::gguf_file(0, {}, {{"a", {16}, 0, 0}, {"b", {16}, 0, 32}}, data)), "'a' and 'b' overlap");
  const std::string unknown = refusal(one({"t", {256}, 16, 0}), ErrorCode::unsupported);
  EXPECT_SAYS(unknown, "'t' has type 16 (IQ2_XXS)");
  EXPECT_SAYS(unknown,
              "supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, "
              "IQ4_XS, MXFP4");
  EXPECT_SAYS(refusal(one({"t", {256}, 4711, 0}), ErrorCode::unsupported), "type 4711 (unknown)");
}

TEST(Gguf, HonoursAlignment) {
  const auto aligned = [](uint32_t alignment, uint64_t offset) {
    return test::gguf_file(1, Bytes().string("general.alignment").put<uint32_t>(4).put(alignment),
                           {{"a", {2}, 0, 0}, {"b", {2}, 0, offset}}, std::string(256, '\0'), 3,
                           alignment == 0 ? 32 : alignment);
  };
  EXPECT_TRUE(parse(aligned(8, 8)));
  EXPECT_TRUE(parse(aligned(128, 128)));
  EXPECT_SAYS(refusal(aligned(64, 32)), "alignment 64");
  EXPECT_SAYS(refusal(aligned(0, 0)), "general.alignment is 0");
  EXPECT_SAYS(refusal(aligned(24, 24)), "general.alignment is 24");
}

TEST(Gguf, ErrorsStayPrintable) {
  const std::string message = refusal(test::gguf_file(0, {}, {{std::string(500, '\x01'), {0}, 0, 0}}, "x"));
  ASSERT_TRUE(base::utf8::is_valid(message));
  EXPECT_LT(base::utf8::length(message), 300U);
  EXPECT_EQ(base::utf8::printable(message), message);
}

TEST(Gguf, OpensRealFiles) {
  EXPECT_EQ(GgufFile::open("/nonexistent/model.gguf").error().code(), ErrorCode::not_found);
  const auto file = GgufFile::open(test::nano_coder());
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_EQ(file->get_string("general.architecture").value(), "llama");
  EXPECT_EQ(file->tensors().size(), 56U);
  EXPECT_EQ(file->get_strings("tokenizer.ggml.tokens").value().size(), 4096U);
}

}  // namespace
}  // namespace tidemill::model
