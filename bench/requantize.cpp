// Writes a model anew with its matrices in another type, for measuring what a type and its arithmetic cost.
//
//   bench_requantize IN.gguf OUT.gguf TYPE
//
// Norms and biases stay as they are. A matrix whose rows do not fit the type's blocks becomes Q8_0, and where that does
// not fit either, F32.
#include <cstdio>
#include <string>
#include <vector>

#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "tensor/dtype.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using tensor::DType;

namespace {

DType type_for(const model::GgufTensor& tensor, DType wanted) {
  if (tensor.rank < 2) return tensor.type;
  for (const DType type : {wanted, DType::q8_0}) {
    if (tensor.cols() % info(type).block_elements == 0) return type;
  }
  return DType::f32;
}

base::Result<void> requantize(const char* from, const char* to, DType wanted) {
  TM_TRY(const auto file, model::GgufFile::open(from));
  model::GgufWriter writer;
  for (const model::GgufEntry& entry : file.metadata()) {
    // They describe the old file.
    if (entry.key != "general.file_type" && entry.key != "general.alignment") writer.add(entry);
  }
  for (const model::GgufTensor& tensor : file.tensors()) {
    writer.declare_tensor(tensor.name, type_for(tensor, wanted),
                          std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
  }
  TM_CHECK(writer.begin(to));
  std::vector<float> values;
  std::vector<std::byte> row;
  for (const model::GgufTensor& tensor : file.tensors()) {
    const DType type = type_for(tensor, wanted);
    if (type == tensor.type) {
      TM_CHECK(writer.write(tensor.data));
      continue;
    }
    values.resize(static_cast<size_t>(tensor.cols()));
    row.resize(static_cast<size_t>(row_bytes(type, tensor.cols())));
    for (int64_t r = 0; r < tensor.rows(); ++r) {
      tensor::dequantize(tensor.type, tensor.data.data() + r * row_bytes(tensor.type, tensor.cols()), tensor.cols(),
                         values.data());
      tensor::quantize(type, values.data(), tensor.cols(), row.data());
      TM_CHECK(writer.write(row));
    }
  }
  return writer.finish();
}

}  // namespace

int main(int argc, char** argv) {
  const auto type = argc == 4 ? tensor::dtype_from_name(argv[3]) : std::nullopt;
  if (!type) {
    std::fprintf(stderr, "usage: bench_requantize IN.gguf OUT.gguf TYPE (%s)\n", model::supported_types_text().c_str());
    return 2;
  }
  if (const auto done = requantize(argv[1], argv[2], *type); !done) {
    std::fprintf(stderr, "%s\n", done.error().to_string().c_str());
    return 1;
  }
  return 0;
}
