// Brings a checkpoint's tensors to a device, one after another. Each is asked for by its name and held against the
// shape that is wanted of it: one that is not there, or is another, is refused by its name. What a layer is made of is
// not known here (layer_loader.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "model/architectures/architecture.hpp"
#include "model/checkpoint.hpp"
#include "model/hyper_parameters.hpp"
#include "model/model.hpp"
#include "model/weights.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

// Errors of all that loads: those of check_tensors() and load_weights(). Not thread-safe.
class TensorLoader {
 public:
  using Matrices = std::vector<std::unique_ptr<tensor::Weight>>;

  // Without a device, it only checks: what it gives is empty. `numbers` are those that shapes follow from, for errors.
  // The file, the hyper-parameters and the device must outlive it.
  TensorLoader(const Checkpoint& file, const HyperParameters& hyper, std::string numbers,
               tensor::Device* device = nullptr, LoadOptions options = {});

  bool only_checks() const { return device_ == nullptr; }
  bool has(const std::string& tensor) const { return file_.find_tensor(tensor) != nullptr; }

  // A packed file's tensors that are no matrices are small, and some are read with the hyper-parameters: all of them
  // are verified at once.
  base::Result<void> verify_vectors() const;

  // The matrix [rows][cols] of `name`.weight.
  base::Result<std::unique_ptr<tensor::Weight>> matrix(const std::string& name, int64_t rows, int64_t cols);
  // `count` of them in one tensor, one behind the other. None where loading only checks.
  base::Result<Matrices> matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols);
  // A vector, whose name is whole. Empty where there need not be one and is none.
  base::Result<std::vector<float>> vector(const std::string& name, int64_t elements,
                                          Presence presence = Presence::required);
  // `count` of them in one tensor, one behind the other. Empty ones where there need not be one and is none; none where
  // loading only checks.
  base::Result<std::vector<std::vector<float>>> vectors(const std::string& name, int64_t count, int64_t elements,
                                                        Presence presence);
  // The matrix `name`.weight and the vector `name`.bias.
  base::Result<Projection> projection(const std::string& name, int64_t rows, int64_t cols, Presence bias);

  // A matrix by which nothing is multiplied, but by others that are made of it; those who watch are not told of it.
  struct Source {
    const GgufTensor* tensor;
    std::span<const std::byte> bytes;  // none where loading only checks; until the next tensor is loaded
  };
  base::Result<Source> source(const std::string& name, int64_t rows, int64_t cols);
  // `count` matrices that were made of it: `bytes` of `type`.
  base::Result<Matrices> made_of(const Source& source, tensor::DType type, std::span<const std::byte> bytes,
                                 int64_t count, int64_t rows, int64_t cols);
  // They are all there.
  void finish(const Source& source) { finish(*source.tensor); }

  // All is there that was wanted: the last of the progress, and a warning if the file has more.
  void complete() const;
  // Frees what was needed to make tensors that the file has in another form.
  void free_scratch() { made_ = {}; }
  size_t bytes() const { return bytes_; }  // on the device, and in vectors
  // What matrices lie in where they stayed where they were; else null.
  std::shared_ptr<const base::MappedFile> mapping() const;

 private:
  base::Result<const GgufTensor*> require(const std::string& name) const;
  base::Error wrong_shape(const GgufTensor& tensor, std::string_view wanted) const;
  base::Error damaged(const GgufTensor& tensor, std::string_view how) const;
  base::Error packed_as_matrix(const GgufTensor& tensor) const;
  base::Error not_loaded(const GgufTensor& tensor, const base::Error& reason) const;

  // That nobody wants to stop.
  base::Result<void> check_cancelled() const;
  // As Checkpoint::read(), in made_ where it is made; pages of what it is made of are released.
  base::Result<std::span<const std::byte>> read(const GgufTensor& tensor);
  // That panels of several matrices are as they were written.
  base::Result<void> check_panels(const GgufTensor& tensor);
  // Releases the pages behind it, as packing does: they are mapped again for that, and never all at once.
  base::Result<void> check_numbers(const GgufTensor& tensor, std::span<const std::byte> bytes);
  // All threads look at large tensors; for small ones, threads that are not there yet would cost more than they give:
  // null.
  base::ThreadTeam* team_for(std::span<const std::byte> bytes);

  // A matrix of `tensor`, or a part of it that is one, from its bytes; panels are compared with `checksum`.
  base::Result<std::unique_ptr<tensor::Weight>> load_one(const GgufTensor& tensor, std::span<const std::byte> bytes,
                                                         std::optional<uint64_t> checksum, int64_t rows, int64_t cols);
  // `count` matrices that were made of `tensor`, or are its own, and no panels.
  base::Result<Matrices> load_together(const GgufTensor& tensor, tensor::DType type, std::span<const std::byte> bytes,
                                       int64_t count, int64_t rows, int64_t cols);
  // The numbers of a vector, which is there.
  std::vector<float> read_vector(tensor::DType type, const std::byte* from, int64_t elements);
  // `weight` is a matrix of `tensor`, and there.
  void add(const GgufTensor& tensor, const tensor::Weight& weight);
  void finish(const GgufTensor& tensor);
  void warn_of_unused() const;

  const Checkpoint& file_;
  const HyperParameters& hyper_;
  std::string numbers_;
  tensor::Device* device_;
  LoadOptions options_;
  tensor::SourceRelease release_;  // pages of the file
  std::optional<base::ThreadTeam> team_;
  base::Buffer made_;  // of the tensor that is being loaded, where the file has it in another form
  size_t total_;
  size_t done_ = 0;
  size_t used_ = 0;
  size_t bytes_ = 0;
};

// As they are, without biases.
std::vector<Projection> projections(TensorLoader::Matrices matrices);

}  // namespace tidemill::model
