// The module that the program loads to train: the student on libtorch, behind the border in distill/student.hpp.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/tensor.h>
#include <algorithm>
#include <cmath>
#include <exception>
#include <malloc.h>
#include <new>
#include <string_view>
#include <torch/csrc/api/include/torch/version.h>
#include <utility>

#include "base/version.hpp"
#include "distill/student.hpp"
#include "distill/torch/network.hpp"
#include "distill/torch/optimizer.hpp"

namespace tidemill::distill {

using at::Tensor;
using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr std::string_view kSteps = "steps";

// Windows in one pass: with a few thousand rows a core's cache would not hold what the backward pass wants again.
constexpr int64_t kPassRows = 1024;

// Runs `work`; what libtorch throws becomes an error.
template <typename T, typename Work>
Result<T> guarded(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::exhausted, "memory ran out while training");
  } catch (const c10::Error& fault) {
    return Error(ErrorCode::internal, std::string("libtorch: ") + fault.what_without_backtrace());
  } catch (const std::exception& fault) {
    return Error(ErrorCode::internal, std::string("libtorch: ") + fault.what());
  }
}

// Rows in halves by head become rows of pairs, as "llama" files have them: half-pair (i, i + h) goes to 2i and 2i + 1.
Tensor to_pairs(const Tensor& rows, int64_t heads) {
  if (heads == 0) return rows;
  const int64_t half = rows.size(0) / heads / 2;
  return rows.reshape({heads, 2, half, rows.size(1)}).transpose(1, 2).reshape(rows.sizes());
}

Tensor to_halves(const Tensor& rows, int64_t heads) {
  if (heads == 0) return rows;
  const int64_t half = rows.size(0) / heads / 2;
  return rows.reshape({heads, half, 2, rows.size(1)}).transpose(1, 2).reshape(rows.sizes());
}

NamedArray to_array(const NamedView& view) {
  const Tensor values = to_pairs(view.values, view.heads).contiguous();
  NamedArray array{view.name, {values.sizes().rbegin(), values.sizes().rend()}, {}};
  array.values.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
  return array;
}

// Runs body(i) for each of `count`, each on one thread: alone too, so that how ATen shares sums among threads, which
// changes bits, does not matter.
template <typename Body>
void for_each(int64_t count, int threads, Body body) {
  if (count == 1) at::set_num_threads(1);
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      body(i);
  });
  if (count == 1) at::set_num_threads(threads);
}

bool finite(const Score& score) {
  return std::isfinite(score.nats) && std::isfinite(score.divergence);
}

Exercise part_of(const Exercise& exercise, int64_t first, int64_t windows) {
  const auto begin = static_cast<size_t>(first * exercise.length);
  const auto rows = static_cast<size_t>(windows * exercise.length);
  const auto kept = static_cast<size_t>(exercise.kept);
  Exercise part = exercise;
  part.windows = windows;
  part.tokens = exercise.tokens.subspan(begin, rows);
  part.next = exercise.next.subspan(begin, rows);
  part.expected = exercise.expected.subspan(begin * kept, rows * kept);
  part.probabilities = exercise.probabilities.subspan(begin * kept, rows * kept);
  return part;
}

class TorchStudent final : public Student {
 public:
  explicit TorchStudent(const StudentPlan& plan)
      : plan_(plan),
        network_(plan),
        weights_(NetworkTensors::zeros(plan.shape, plan.vocabulary)),
        views_(named_views(weights_, plan.shape)),
        optimizer_(plan, views_) {
    at::set_num_threads(plan.threads);
    randomize();
  }

  Result<Score> step(const Exercise& exercise, double rate) override {
    return guarded<Score>([&] {
      const Score score = run(exercise, true);
      if (!finite(score)) return score;
      optimizer_.step(named_views(gradients_.front(), plan_.shape), rate);
      return score;
    });
  }

  Result<Score> judge(const Exercise& exercise) override {
    return guarded<Score>([&] { return run(exercise, false); });
  }

  Result<std::vector<NamedArray>> weights() const override {
    return guarded<std::vector<NamedArray>>([&] { return arrays(views_); });
  }

  Result<std::vector<NamedArray>> state() const override {
    return guarded<std::vector<NamedArray>>([&] {
      std::vector<NamedArray> all = arrays(views_);
      for (NamedArray& array : arrays(optimizer_.state()))
        all.push_back(std::move(array));
      all.push_back({std::string(kSteps), {1}, {static_cast<float>(optimizer_.steps())}});
      return all;
    });
  }

  Result<void> restore(std::span<const NamedArray> arrays) override {
    auto restored = guarded<bool>([&]() -> Result<bool> {
      std::vector<NamedView> known = views_;
      for (NamedView& view : optimizer_.state())
        known.push_back(std::move(view));
      for (const NamedArray& array : arrays)
        TM_CHECK(restore(array, known));
      return true;
    });
    if (!restored) return std::move(restored).error();
    return {};
  }

 private:
  static std::vector<NamedArray> arrays(const std::vector<NamedView>& views) {
    std::vector<NamedArray> made(views.size());
    std::ranges::transform(views, made.begin(), to_array);
    return made;
  }

  Result<void> restore(const NamedArray& array, std::span<const NamedView> known) {
    if (array.name == kSteps && array.values.size() == 1) {
      optimizer_.set_steps(static_cast<int64_t>(array.values[0]));
      return {};
    }
    for (const NamedView& view : known) {
      if (view.name != array.name) continue;
      const std::vector<int64_t> shape(array.shape.rbegin(), array.shape.rend());
      if (view.values.sizes() != at::IntArrayRef(shape)) break;
      const Tensor given = at::from_blob(const_cast<float*>(array.values.data()), shape);
      view.values.copy_(to_halves(given, view.heads));
      return {};
    }
    return Error(ErrorCode::corrupt, "'" + array.name + "' is no array of this student, or has another shape");
  }

  // Embeddings and norms aside: matrices that add to the hidden state begin at zero, the others with a variance that
  // keeps that of their input.
  void randomize() {
    auto generator = at::detail::createCPUGenerator(plan_.seed);
    for (const NamedView& view : views_) {
      Tensor values = view.values;
      if (values.dim() == 1) {
        values.fill_(1);
      } else if (view.name.ends_with("attn_output.weight") || view.name.ends_with("ffn_down.weight")) {
        values.zero_();
      } else {
        const double spread = view.matrix ? 1 / std::sqrt(static_cast<double>(values.size(1))) : 0.02;
        values.normal_(0, spread, generator);
      }
    }
  }

  // Every pass has a few windows and gradients of its own, which are summed in order: how many threads share the passes
  // changes no bit.
  Score run(const Exercise& exercise, bool learning) {
    const int64_t each = std::max<int64_t>(1, kPassRows / exercise.length);
    const int64_t passes = (exercise.windows + each - 1) / each;
    while (learning && static_cast<int64_t>(gradients_.size()) < passes)
      gradients_.push_back(NetworkTensors::zeros(plan_.shape, plan_.vocabulary));
    std::vector<Score> scores(static_cast<size_t>(passes));
    const auto rows = static_cast<double>(exercise.windows * exercise.length);
    for_each(passes, plan_.threads, [&](int64_t pass) {
      const auto at = static_cast<size_t>(pass);
      const int64_t first = pass * each;
      const Exercise part = part_of(exercise, first, std::min(each, exercise.windows - first));
      if (learning) {
        for (Tensor& gradient : gradients_[at].all())
          gradient.zero_();
      }
      scores[at] = network_.run(weights_, part, rows, learning ? &gradients_[at] : nullptr);
    });
    Score sum;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const auto at = static_cast<size_t>(pass);
      sum.rows += scores[at].rows;
      sum.nats += scores[at].nats;
      sum.divergence += scores[at].divergence;
      sum.right += scores[at].right;
      if (learning && pass > 0) add(gradients_[at], gradients_.front());
    }
    return sum;
  }

  static void add(const NetworkTensors& from, const NetworkTensors& to) {
    const std::vector<Tensor> parts = from.all();
    const std::vector<Tensor> sums = to.all();
    for (size_t i = 0; i < parts.size(); ++i)
      sums[i].add_(parts[i]);
  }

  StudentPlan plan_;
  Network network_;
  NetworkTensors weights_;
  std::vector<NamedView> views_;
  Optimizer optimizer_;
  std::vector<NetworkTensors> gradients_;  // of each pass
};

// Tensors of a few MiB come and go by the thousand: asking the kernel for each anew, which clears them, took a seventh
// of the time.
void keep_memory() {
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

Result<std::unique_ptr<Student>> make(const StudentPlan& plan) {
  keep_memory();
  return guarded<std::unique_ptr<Student>>(
      [&]() -> std::unique_ptr<Student> { return std::make_unique<TorchStudent>(plan); });
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const StudentModule tidemill_student_module;
const StudentModule tidemill_student_module = {kStudentInterface, TIDEMILL_VERSION, "libtorch " TORCH_VERSION, make};

}  // namespace tidemill::distill
