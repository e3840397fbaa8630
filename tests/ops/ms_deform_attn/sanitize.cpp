// Every kernel on heap buffers of exactly the right size, for a build with the sanitizers: no byte beside them is
// touched. Results are filled with a pattern that no kernel writes, and none of it may be left.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels.h"

namespace {

struct Buffer {
  std::vector<unsigned char> bytes;
  int64_t width;  // of an element

  Buffer(int64_t count, int64_t width) : bytes(count * width, 0xff), width(width) { bytes.shrink_to_fit(); }

  // Numbers in low..high, as type says; the half types hold 1.
  void fill(msda::Type type, double low, double high) {
    for (size_t at = 0; at < bytes.size(); at += width) {
      const double number = low + (high - low) * std::rand() / RAND_MAX;
      const float single = float(number);
      const uint16_t one = type == msda::Type::kHalf ? 0x3c00 : 0x3f80;
      const void* from = width == 8 ? static_cast<const void*>(&number) : width == 4 ? static_cast<const void*>(&single) : &one;
      std::memcpy(bytes.data() + at, from, width);
    }
  }

  void expect_written(const char* name) const {
    for (size_t at = 0; at < bytes.size(); at += width) {
      bool written = false;
      for (int64_t i = 0; i < width; ++i) written |= bytes[at + i] != 0xff;
      if (written) continue;
      std::printf("%s: element %zu is not written\n", name, at / size_t(width));
      std::exit(1);
    }
  }
};

void run(msda::Type type, std::vector<int64_t> shapes, int64_t heads, int64_t channels, int64_t queries, int64_t points,
         int64_t reference_size, bool copied, bool by_level) {
  const int64_t width = type == msda::Type::kDouble ? 8 : type == msda::Type::kFloat ? 4 : 2, wide = width < 4 ? 4 : width;
  const msda::Type accumulated = width == 8 ? msda::Type::kDouble : msda::Type::kFloat;
  const int64_t images = 2, levels = int64_t(shapes.size()) / 2;
  std::vector<int64_t> starts;
  int64_t pixels = 0;
  for (int64_t l = 0; l < levels; ++l) starts.push_back(pixels), pixels += shapes[2 * l] * shapes[2 * l + 1];
  const int64_t items = images * queries * heads, count = levels * points;

  Buffer value(images * pixels * heads * channels, width), raw(items * count * 2, wide), weights(items * count, wide);
  Buffer reference(images * queries * levels * reference_size, wide), grad_output(items * channels, width);
  Buffer output(items * channels, width), grad_value(images * pixels * heads * channels, width);
  Buffer grad_raw(items * count * 2, wide), grad_weights(items * count, wide);
  value.fill(type, -1, 1), grad_output.fill(type, -1, 1);
  raw.fill(accumulated, reference_size ? -3 : -0.3, reference_size ? 3 : 1.3);
  weights.fill(accumulated, -1, 1), reference.fill(accumulated, 0, 1);
  std::vector<int32_t> order(queries);
  std::iota(order.rbegin(), order.rend(), 0);

  msda::Problem p = {};
  p.images = images, p.pixels = pixels, p.heads = heads, p.channels = channels, p.queries = queries;
  p.levels = levels, p.points = points, p.shapes = shapes.data(), p.starts = starts.data();
  p.value = value.bytes.data(), p.raw = raw.bytes.data(), p.weights = weights.bytes.data();
  p.reference = reference_size ? reference.bytes.data() : nullptr, p.reference_size = reference_size;
  p.copy_heads = copied, p.order = copied ? order.data() : nullptr, p.block = 5;
  p.by_level = by_level, p.channel_parts = by_level && channels == 64 ? 2 : 1;
  const int64_t tasks = images * heads * ((queries + p.block - 1) / p.block);
  const msda::Kernels kernels = msda::MSDA_KERNELS(type);

  p.output = output.bytes.data();
  kernels.forward(p, 0, tasks);
  output.expect_written("output");
  p.output = nullptr, p.grad_output = grad_output.bytes.data();
  p.grad_raw = grad_raw.bytes.data(), p.grad_weights = grad_weights.bytes.data();
  if (by_level) kernels.dots(p, 0, tasks), p.grad_raw = p.grad_weights = nullptr;
  p.grad_value = grad_value.bytes.data();
  kernels.scatter(p, 0, images * heads * (by_level ? levels : 1) * p.channel_parts);
  grad_raw.expect_written("grad_raw"), grad_weights.expect_written("grad_weights");
  grad_value.expect_written("grad_value");
}

}  // namespace

int main() {
  const std::vector<std::vector<int64_t>> layouts = {{5, 7, 3, 4, 1, 1}, {6, 9}, {40, 50, 2, 3}};
  for (const msda::Type type : {msda::Type::kFloat, msda::Type::kDouble, msda::Type::kHalf, msda::Type::kBFloat16})
    for (const auto& shapes : layouts)
      for (const int64_t channels : {1, 5, 16, 32, 33, 64, 71})
        for (const int64_t points : {1, 4, 11})
          for (const int64_t reference_size : {0, 2, 4})
            for (const bool copied : {false, true})
              for (const bool by_level : {false, true})
                run(type, shapes, 3, channels, 7, points, reference_size, copied, by_level);
  std::puts("ok");
}
