#include "distill/inherit.hpp"

#include <Eigen/Eigenvalues>
#include <cassert>
#include <string_view>
#include <utility>

#include "base/memory.hpp"

namespace tidemill::distill {

using base::ErrorCode;
using base::Result;

namespace {

constexpr std::string_view kEmbeddings = "token_embd.weight";

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

}  // namespace

std::vector<float> project_rows(std::span<const float> table, int64_t from, std::span<const double> weights,
                                int64_t to) {
  const auto rows = static_cast<int64_t>(weights.size());
  assert(static_cast<int64_t>(table.size()) == rows * from && to <= from);
  const Matrix all =
      Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(table.data(), rows, from)
          .cast<double>();
  const Eigen::Map<const Eigen::VectorXd> shares(weights.data(), rows);
  const Matrix moments = all.transpose() * shares.asDiagonal() * all;
  // Eigenvalues come in ascending order.
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(moments);
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> projected =
      (all * solver.eigenvectors().rightCols(to)).cast<float>();
  return {projected.data(), projected.data() + projected.size()};
}

Result<std::vector<NamedArray>> inherit_embeddings(const model::Checkpoint& teacher, int64_t width,
                                                   std::span<const int32_t> text) {
  const model::GgufTensor* table = teacher.find_tensor(kEmbeddings);
  if (table == nullptr) return teacher.error(ErrorCode::not_found, "there is no tensor 'token_embd.weight'");
  if (width > table->cols() || table->panels) return std::vector<NamedArray>();
  base::Buffer scratch;
  TM_TRY(const std::span<const std::byte> bytes, teacher.read(*table, scratch));
  std::vector<float> values(static_cast<size_t>(table->elements()));
  tensor::dequantize(table->type, bytes.data(), table->elements(), values.data());
  // Tokens that the text has not are there all the same.
  std::vector<double> weights(static_cast<size_t>(table->rows()), 1);
  for (const int32_t token : text)
    weights[static_cast<size_t>(token)] += 1;
  NamedArray inherited{std::string(kEmbeddings), {width, table->rows()}, {}};
  inherited.values = project_rows(values, table->cols(), weights, width);
  return std::vector<NamedArray>{std::move(inherited)};
}

}  // namespace tidemill::distill
