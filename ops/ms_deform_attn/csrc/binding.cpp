// The CPU kernels as two operators of torch's stable ABI. Everything about shapes and values is checked by
// ../arguments.py; here stand only the checks without which memory could be harmed.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace {

using msda::Problem;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

msda::Type type_of(const Tensor& value) {
  switch (value.scalar_type()) {
    case ScalarType::Float: return msda::Type::kFloat;
    case ScalarType::Double: return msda::Type::kDouble;
    case ScalarType::Half: return msda::Type::kHalf;
    default: STD_TORCH_CHECK(value.scalar_type() == ScalarType::BFloat16, "value: unsupported type");
  }
  return msda::Type::kBFloat16;
}

// The kernels that the build asked for; of several, the widest that this processor runs.
msda::Kernels kernels_for(const Tensor& value) {
  const msda::Type type = type_of(value);
#if defined(__x86_64__) && defined(MSDA_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return msda::kernels_avx512(type);
#endif
#if defined(__x86_64__) && defined(MSDA_AVX2)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return msda::kernels_avx2(type);
#endif
#if defined(MSDA_BASELINE)
  return msda::kernels_baseline(type);
#else
  STD_TORCH_CHECK(false, "this library was built for another processor");
#endif
}

void check(const Tensor& t, const char* name, ScalarType type, int64_t numel) {
  STD_TORCH_CHECK(t.is_cpu() && t.is_contiguous() && t.scalar_type() == type && t.numel() == numel,
                  name, ": not a contiguous CPU tensor of the expected type and size");
}

Problem problem_of(const Tensor& value, const Tensor& shapes, const Tensor& starts, const Tensor& raw,
                   const Tensor& weights, const std::optional<Tensor>& reference) {
  STD_TORCH_CHECK(value.dim() == 4 && raw.dim() == 6 && shapes.dim() == 2, "unexpected number of dimensions");
  Problem p = {};
  p.images = value.size(0), p.pixels = value.size(1), p.heads = value.size(2), p.channels = value.size(3);
  p.queries = raw.size(1), p.levels = raw.size(3), p.points = raw.size(4);
  p.channel_parts = 1;
  const auto accumulated = value.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  const int64_t items = p.images * p.queries * p.heads * p.levels * p.points;
  check(value, "value", value.scalar_type(), value.numel());
  check(shapes, "spatial_shapes", ScalarType::Long, 2 * p.levels);
  check(starts, "level_start_index", ScalarType::Long, p.levels);
  check(raw, "locations", accumulated, 2 * items);
  check(weights, "weights", accumulated, items);
  p.shapes = static_cast<const int64_t*>(shapes.const_data_ptr());
  p.starts = static_cast<const int64_t*>(starts.const_data_ptr());
  for (int64_t l = 0; l < p.levels; ++l) {
    const int64_t rows = p.shapes[2 * l], columns = p.shapes[2 * l + 1];
    STD_TORCH_CHECK(rows > 0 && columns > 0 && p.starts[l] >= 0 && p.starts[l] + rows * columns <= p.pixels &&
                        p.pixels < (int64_t(1) << 31),
                    "a level reaches beyond value");
  }
  p.value = value.const_data_ptr(), p.raw = raw.const_data_ptr(), p.weights = weights.const_data_ptr();
  if (reference) {
    STD_TORCH_CHECK(reference->dim() == 4, "unexpected number of dimensions");
    p.reference_size = reference->size(3);
    check(*reference, "reference", accumulated, p.images * p.queries * p.levels * p.reference_size);
    p.reference = reference->const_data_ptr();
  }
  const int64_t heads = p.images * p.heads, threads = torch::stable::get_num_threads();
  const int64_t parts = heads % threads ? (2 * threads + heads - 1) / heads : 1;
  p.block = std::max<int64_t>(1, (p.queries + parts - 1) / parts);
  // In value the rows of a head are heads * channels apart, so that at 8 heads they meet in an eighth of the
  // cache's sets, and nothing is fetched ahead. A copy is not worth it where few rows are read.
  p.copy_heads = p.queries * p.levels * p.points >= p.pixels;
  return p;
}

int64_t tasks(const Problem& p) { return p.images * p.heads * ((p.queries + p.block - 1) / p.block); }

// Where every pixel is a query: tile after tile of 8 x 8, so that neighbours find each other's rows in the
// cache. Empty where the queries are no such grid.
std::vector<int32_t> tiles(const Problem& p) {
  constexpr int64_t kTile = 8;
  int64_t covered = 0;
  for (int64_t l = 0; l < p.levels; ++l) covered += p.shapes[2 * l] * p.shapes[2 * l + 1];
  std::vector<int32_t> order;
  if (covered != p.queries || covered < 16 * kTile * kTile) return order;
  order.reserve(covered);
  int64_t start = 0;
  for (int64_t l = 0; l < p.levels; ++l) {
    const int64_t rows = p.shapes[2 * l], columns = p.shapes[2 * l + 1];
    for (int64_t top = 0; top < rows; top += kTile)
      for (int64_t left = 0; left < columns; left += kTile)
        for (int64_t y = top; y < std::min(top + kTile, rows); ++y)
          for (int64_t x = left; x < std::min(left + kTile, columns); ++x)
            order.push_back(int32_t(start + y * columns + x));
    start += rows * columns;
  }
  return order;
}

Tensor forward(const Tensor& value, const Tensor& shapes, const Tensor& starts, const Tensor& raw,
               const Tensor& weights, std::optional<Tensor> reference) {
  Problem p = problem_of(value, shapes, starts, raw, weights, reference);
  Tensor output = torch::stable::new_empty(value, {p.images, p.queries, p.heads * p.channels});
  p.output = output.mutable_data_ptr();
  const std::vector<int32_t> order = tiles(p);
  p.order = order.empty() ? nullptr : order.data();
  const auto kernel = kernels_for(value).forward;
  torch::stable::parallel_for(0, tasks(p), 1,
                              [&](int64_t begin, int64_t end) { kernel(p, begin, end); });
  return output;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor& grad_output, bool needs_value, bool needs_raw,
                                            bool needs_weights, const Tensor& value, const Tensor& shapes,
                                            const Tensor& starts, const Tensor& raw, const Tensor& weights,
                                            std::optional<Tensor> reference) {
  Problem p = problem_of(value, shapes, starts, raw, weights, reference);
  check(grad_output, "grad_output", value.scalar_type(), p.images * p.queries * p.heads * p.channels);
  p.grad_output = grad_output.const_data_ptr();
  const auto made = [](bool needed, const Tensor& like) {
    return needed ? torch::stable::empty_like(like) : torch::stable::new_empty(like, {0});
  };
  Tensor grad_raw = made(needs_raw, raw), grad_weights = made(needs_weights, weights);
  if (needs_raw) p.grad_raw = grad_raw.mutable_data_ptr();
  if (needs_weights) p.grad_weights = grad_weights.mutable_data_ptr();

  const msda::Kernels kernels = kernels_for(value);
  const std::vector<int32_t> order = tiles(p);
  p.order = order.empty() ? nullptr : order.data();
  // All in one where the heads keep all threads at work.
  const int64_t heads = p.images * p.heads, threads = torch::stable::get_num_threads();
  p.by_level = heads % threads && heads < 8 * threads;
  if ((needs_raw || needs_weights) && (p.by_level || !needs_value)) {
    torch::stable::parallel_for(0, tasks(p), 1,
                                [&](int64_t begin, int64_t end) { kernels.dots(p, begin, end); });
    p.grad_raw = p.grad_weights = nullptr;  // made
  }
  Tensor grad_value = made(needs_value, value);
  if (needs_value) {
    p.grad_value = grad_value.mutable_data_ptr();
    int64_t covered = 0;
    for (int64_t l = 0; l < p.levels; ++l) covered += p.shapes[2 * l] * p.shapes[2 * l + 1];
    if (p.by_level && covered != p.pixels) torch::stable::zero_(grad_value);  // pixels of no level
    const int64_t tasks = p.by_level ? heads * p.levels : heads;
    while (p.by_level && tasks * p.channel_parts < 2 * threads && p.channels / p.channel_parts % 32 == 0)
      p.channel_parts *= 2;
    torch::stable::parallel_for(0, tasks * p.channel_parts, 1,
                                [&](int64_t begin, int64_t end) { kernels.scatter(p, begin, end); });
  }
  return {grad_value, grad_raw, grad_weights};
}

}  // namespace

#define MSDA_INPUTS "Tensor value, Tensor shapes, Tensor starts, Tensor raw, Tensor weights, Tensor? reference"

STABLE_TORCH_LIBRARY(contiseg_msda, library) {
  library.def("forward(" MSDA_INPUTS ") -> Tensor");
  library.def(
      "backward(Tensor grad_output, bool needs_value, bool needs_raw, bool needs_weights, " MSDA_INPUTS
      ") -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(contiseg_msda, CPU, library) {
  library.impl("forward", TORCH_BOX(&forward));
  library.impl("backward", TORCH_BOX(&backward));
}
