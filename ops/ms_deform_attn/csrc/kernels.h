// What the binding and the kernels of each instruction set agree on. The maths is in ../README.md.
#pragma once

#include <cstdint>

namespace msda {

// One call. Every array is contiguous; the shapes are those of ../op.py.
struct Problem {
  int64_t images, pixels, heads, channels, queries, levels, points;
  const int64_t* shapes;  // (levels, 2): height, width
  const int64_t* starts;  // (levels,): first pixel of each level

  const void* value;      // (images, pixels, heads, channels)
  bool copy_heads;        // whether a thread copies a head's rows side by side before it works on the head
  const void* reference;  // (images, queries, levels, reference_size), or null: then `raw` are locations
  int64_t reference_size; // 2: x, y; 4: x, y, width, height
  const void* raw;        // (images, queries, heads, levels, points, 2): locations, or offsets
  const void* weights;    // (images, queries, heads, levels * points): weights; with a reference, logits

  void* output;           // (images, queries, heads, channels)

  const void* grad_output;
  void* grad_value;       // of value's type
  void* grad_raw;
  void* grad_weights;

  const int32_t* order;   // (queries,): in which they are visited, or null
  int64_t block;          // how many of them a task of `forward` and `dots` has
  bool by_level;          // so that many threads find work, `scatter` may do level by level
  int64_t channel_parts;  // and cut the channels

  int64_t query(int64_t image, int64_t turn) const { return image * queries + (order ? order[turn] : turn); }
};

// All arrays but `value`, `output`, `grad_output` and `grad_value` are of the accumulation type: float, or
// double with double values. Ranges are halves [begin, end) of what `parallel_for` hands out.
struct Kernels {
  void (*forward)(const Problem&, int64_t begin, int64_t end);  // over images * heads * ceil(queries / block)
  void (*dots)(const Problem&, int64_t begin, int64_t end);     // the same
  void (*scatter)(const Problem&, int64_t begin, int64_t end);  // over images * heads * (levels) * parts
};

enum class Type { kFloat, kDouble, kHalf, kBFloat16 };

// One function an instruction set; kernels.cpp is compiled once for each.
Kernels kernels_baseline(Type);
Kernels kernels_avx2(Type);
Kernels kernels_avx512(Type);

}  // namespace msda
