#include "model/safetensors.hpp"

#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "gguf_bytes.hpp"
#include "safetensors_bytes.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::safetensors_file;
using test::SafetensorsBytes;

// The error that the file must give.
std::string refused_file(const std::string& bytes, ErrorCode code = ErrorCode::corrupt) {
  const auto file = SafetensorsFile::parse(test::as_bytes(bytes), "model.safetensors");
  if (file) return "(accepted)";
  EXPECT_EQ(file.error().code(), code) << file.error().message();
  EXPECT_EQ(file.error().message().substr(0, 19), "model.safetensors: ");
  return file.error().message();
}

// The error that the one tensor must give, beside 8 bytes of data.
std::string refused_tensor(std::string_view tensor, ErrorCode code = ErrorCode::corrupt) {
  return refused_file(safetensors_file("{\"a\": " + std::string(tensor) + "}", "12345678"), code);
}

TEST(Safetensors, ReadsTensorsWhereTheyLie) {
  const test::TemporaryFolder folder;
  SafetensorsBytes bytes;
  bytes.add("matrix", "BF16", {2, 3}, "abcdefghijkl")
      .add("scalar", "I64", {}, "87654321")
      .add("vector", "F32", {1}, "wxyz");
  for (const size_t pad : {0, 1, 7}) {
    const auto path = folder.put("model.safetensors", bytes.file(pad));
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->file_bytes(), std::filesystem::file_size(path));
    EXPECT_EQ(file->header_bytes(), file->file_bytes() - 24);
    ASSERT_EQ(file->tensors().size(), 3U);
    const SafetensorsTensor* matrix = file->find("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_EQ(matrix->type, tensor::DType::bf16);
    EXPECT_EQ(matrix->shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(matrix->data.data()), matrix->data.size()),
              "abcdefghijkl");
    EXPECT_EQ(matrix, file->tensors().data());
    EXPECT_FALSE(file->find("scalar")->type);
    EXPECT_EQ(file->find("scalar")->dtype, "I64");
    EXPECT_TRUE(file->find("scalar")->shape.empty());
    EXPECT_EQ(file->find("vector")->data.size(), 4U);
    EXPECT_EQ(file->find("other"), nullptr);
  }
}

TEST(Safetensors, OrderInTheHeaderDoesNotMatterNorDoMetadata) {
  const std::string bytes = safetensors_file(R"({"__metadata__": {"format": "pt"},
      "b": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
      "a": {"dtype": "F16", "shape": [2, 1], "data_offsets": [0, 4]}})",
                                             "12345678");
  const auto file = SafetensorsFile::parse(test::as_bytes(bytes), "x");
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[1].name, "b");
  const std::string none = safetensors_file("{}", "");
  EXPECT_TRUE(SafetensorsFile::parse(test::as_bytes(none), "x"));
}

TEST(Safetensors, BoundsTheHeader) {
  EXPECT_SAYS(refused_file(""), "not a safetensors file");
  EXPECT_SAYS(refused_file("1234567"), "it has 7 bytes");
  const std::string good = SafetensorsBytes().add("a", "F32", {1}, "1234").file();
  for (size_t length = 8; length < good.size() - 4; ++length)
    EXPECT_SAYS(refused_file(good.substr(0, length)), "(truncated?)");
  std::string huge = good;
  huge[4] = 1;
  EXPECT_SAYS(refused_file(huge, ErrorCode::corrupt), "4294967");
  EXPECT_SAYS(refused_file(std::string(64, '\xff'), ErrorCode::corrupt), "is it a safetensors file?");
  for (const char* text : {"", "[]", "{", "7", "{\"a\": }", "{} {}", "{\"a\": {\"b\": [[[]]]}}", "\xff"})
    EXPECT_SAYS(refused_file(safetensors_file(text, "")), "no JSON object of tensors");
}

TEST(Safetensors, BoundsEveryTensor) {
  EXPECT_SAYS(refused_tensor("7"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor("{}"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [2], "data_offsets": [0]})"), "two \"data_offsets\"");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]})"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]})"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [2.5], "data_offsets": [0, 8]})"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor(R"({"dtype": 1, "shape": [2], "data_offsets": [0, 8]})"), "tensor 'a' wants");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,2], "data_offsets": [0, 8]})"),
              "at most 8 extents");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F4", "shape": [2], "data_offsets": [0, 8]})", ErrorCode::unsupported),
              "of the type 'F4'; known are F32, F16, BF16");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 12]})"), "from byte 0 to 12 of 8");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [2], "data_offsets": [8, 0]})"), "from byte 8 to 0");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [3], "data_offsets": [0, 8]})"),
              "takes 12 bytes, but its data lie from byte 0 to 8, which are 8");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [0, 2], "data_offsets": [0, 8]})"), "at least 1");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]})"),
              "fit 63 bits");
  EXPECT_SAYS(refused_tensor(R"({"dtype": "F32", "shape": [18446744073709551615], "data_offsets": [0, 8]})"),
              "tensor 'a' wants");
}

TEST(Safetensors, TheDataAreTakenOnceAndWhole) {
  const auto two = [](int a_begin, int a_end, int b_begin, int b_end) {
    return refused_file(
        safetensors_file(fmt::format(R"({{"a": {{"dtype": "U8", "shape": [{}], "data_offsets": [{}, {}]}},
                         "b": {{"dtype": "U8", "shape": [{}], "data_offsets": [{}, {}]}}}})",
                                     a_end - a_begin, a_begin, a_end, b_end - b_begin, b_begin, b_end),
                         "12345678"));
  };
  EXPECT_EQ(two(0, 4, 4, 8), "(accepted)");
  EXPECT_EQ(two(4, 8, 0, 4), "(accepted)");
  EXPECT_SAYS(two(0, 5, 4, 8), "tensors 'a' and 'b' overlap");
  EXPECT_SAYS(two(0, 8, 0, 8), "overlap");
  EXPECT_SAYS(two(0, 3, 4, 8), "1 bytes before the data of tensor 'b' belong to no tensor");
  EXPECT_SAYS(two(1, 4, 4, 8), "1 bytes before the data of tensor 'a' belong to no tensor");
  EXPECT_SAYS(two(0, 4, 4, 7), "the last 1 bytes of the file belong to no tensor");
}

TEST(Safetensors, NamesTheFileThatIsNotThere) {
  const auto file = SafetensorsFile::open("nowhere/model.safetensors");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), ErrorCode::not_found);
  EXPECT_SAYS(file.error().to_string(), "nowhere/model.safetensors");
}

}  // namespace
}  // namespace tidemill::model
