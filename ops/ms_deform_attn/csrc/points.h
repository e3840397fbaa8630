// The points of an item, which is one (query, head): where they lie, their weights, and their gradients.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels.h"
#include "vectors.h"

// Shared by the storage types: to build it once is worth a call.
#define MSDA_SHARED __attribute__((noinline))

namespace {

using msda::Problem;

// A vector of points, with all that their rows need.
template <class A>
struct Block {
  using F = typename Lanes<A>::F;
  using I = typename Lanes<A>::I;
  int count = 0;  // of the lanes that hold a point; the others are never inside, and their pixels are the first
  I columns = I{} + 1, rows = I{} + 1, start = {}, level = I{} - 1;
  F width = {}, height = {};
  F base_x = {}, base_y = {}, scale_x = {}, scale_y = {};  // a raw number in pixels: x = base_x + scale_x * raw_x
  F weight = {}, along = {}, down = {};  // a, lambda, mu
  I inside = {}, corner_inside[4] = {};  // corners: top left, top right, bottom left, bottom right
  I index[4] = {};                       // of the corner's pixel in its image, clamped into the level
  F share[4] = {};                       // what the corner's row is multiplied with; 0 outside
  F dot[4] = {};                         // of the corners' rows and the gradient of the output, point by point

  // A point at or beyond distance 1 from its level, or not finite, is not inside, and has no corner inside.
  void place(F x, F y) {
    const I zero = {};
    inside = (x > A(-1)) & (x < width) & (y > A(-1)) & (y < height);  // false for NaN
    x = inside ? x : F{}, y = inside ? y : F{};
    I x0, y0;
    along = x - floor_of<A>(x, x0), down = y - floor_of<A>(y, y0);
    const I x1 = x0 + 1, y1 = y0 + 1;
    const I left = inside & (x0 >= 0), right = inside & (x1 < columns), top = y0 >= 0, bottom = y1 < rows;
    corner_inside[0] = left & top, corner_inside[1] = right & top;
    corner_inside[2] = left & bottom, corner_inside[3] = right & bottom;
    const I column0 = x0 < 0 ? zero : x0, column1 = x1 < columns ? x1 : columns - 1;
    const I row0 = start + (y0 < 0 ? zero : y0) * columns, row1 = start + (y1 < rows ? y1 : rows - 1) * columns;
    index[0] = row0 + column0, index[1] = row0 + column1, index[2] = row1 + column0, index[3] = row1 + column1;
    const F above = weight * (A(1) - down), below = weight * down;
    share[0] = above * (A(1) - along), share[1] = above * along;
    share[2] = below * (A(1) - along), share[3] = below * along;
    for (int c = 0; c < 4; ++c) share[c] = corner_inside[c] ? share[c] : F{};
  }
};

// What one thread keeps while it works: the points of an item, which is one (query, head).
template <class A>
struct Bench {
  using F = typename Lanes<A>::F;
  using I = typename Lanes<A>::I;
  int64_t count;  // of the points
  std::vector<Block<A>> blocks;

  explicit Bench(const Problem& p) : count(p.levels * p.points), blocks((count + kWidth<A> - 1) / kWidth<A>) {
    for (int64_t k = 0; k < count; ++k) {
      Block<A>& block = blocks[k / kWidth<A>];
      const int64_t level = k / p.points;
      const int lane = block.count++;
      block.rows[lane] = p.shapes[2 * level], block.columns[lane] = p.shapes[2 * level + 1];
      block.height[lane] = A(block.rows[lane]), block.width[lane] = A(block.columns[lane]);
      block.start[lane] = p.starts[level], block.level[lane] = level;
    }
    const bool pixels = p.reference && p.reference_size == 2;
    for (Block<A>& block : blocks) {
      block.base_x = block.base_y = splat(A(-0.5));
      block.scale_x = pixels ? splat(A(1)) : block.width, block.scale_y = pixels ? splat(A(1)) : block.height;
    }
  }

  // Offsets from a query's reference points or boxes: W r_x - 1/2 + o_x, and W r_x - 1/2 + (W r_w / 2P) o_x.
  MSDA_SHARED void refer(const Problem& p, int64_t query) {
    const int64_t size = p.reference_size;
    const A* const references = static_cast<const A*>(p.reference) + query * p.levels * size;
    for (Block<A>& block : blocks) {
      F x = {}, y = {}, width = {}, height = {};
      for (auto level = block.level[0]; level <= block.level[block.count - 1]; ++level) {
        const A* const r = references + level * size;
        const I here = block.level == level;
        x = here ? splat(r[0]) : x, y = here ? splat(r[1]) : y;
        if (size == 4) width = here ? splat(r[2]) : width, height = here ? splat(r[3]) : height;
      }
      block.base_x = block.width * x - A(0.5), block.base_y = block.height * y - A(0.5);
      if (size < 4) continue;
      block.scale_x = block.width * width / A(2 * p.points), block.scale_y = block.height * height / A(2 * p.points);
    }
  }

  // The item's weights, from logits.
  void softmax(const A* logits) {
    F greatest = splat(-std::numeric_limits<A>::infinity());
    for (Block<A>& block : blocks) {
      const F z = load_some(logits, block.count);
      block.weight = block.level >= 0 ? z : splat(-std::numeric_limits<A>::infinity());
      greatest = block.weight <= greatest ? greatest : block.weight;  // NaN wins
      logits += kWidth<A>;
    }
    greatest = across<A>(greatest, [](F a, F b) { return b <= a ? a : b; });
    F sum = {};
    for (Block<A>& block : blocks) {
      const F e = exp_of(block.weight - greatest);
      block.weight = block.level >= 0 ? e : F{};
      sum += block.weight;
    }
    sum = A(1) / across<A>(sum, [](F a, F b) { return a + b; });
    for (Block<A>& block : blocks) block.weight *= sum;
  }

  MSDA_SHARED void place(const Problem& p, int64_t item) {
    const A* raw = static_cast<const A*>(p.raw) + 2 * item * count;
    const A* weights = static_cast<const A*>(p.weights) + item * count;
    if (p.reference) softmax(weights);
    for (Block<A>& block : blocks) {
      if (!p.reference) block.weight = load_some(weights, block.count);
      const F first = load_some(raw, 2 * block.count);  // x0 y0 x1 y1 ...
      const F second = load_some(raw + kWidth<A>, 2 * block.count - kWidth<A>);
      block.place(block.base_x + block.scale_x * pick<Unzip<kWidth<A>, 0>, A>(first, second),
                  block.base_y + block.scale_y * pick<Unzip<kWidth<A>, 1>, A>(first, second));
      raw += 2 * kWidth<A>, weights += kWidth<A>;
    }
  }

  // Four numbers a point, one point after the other -> vectors of the first, second, third and fourth.
  static void separate(F* s) {
    constexpr int w = kWidth<A>;
    F even[2], odd[2];
    for (int i = 0; i < 2; ++i) {
      even[i] = pick<Unzip<w, 0>, A>(s[2 * i], s[2 * i + 1]);
      odd[i] = pick<Unzip<w, 1>, A>(s[2 * i], s[2 * i + 1]);
    }
    s[0] = pick<Unzip<w, 0>, A>(even[0], even[1]), s[1] = pick<Unzip<w, 0>, A>(odd[0], odd[1]);
    s[2] = pick<Unzip<w, 1>, A>(even[0], even[1]), s[3] = pick<Unzip<w, 1>, A>(odd[0], odd[1]);
  }

  // The item's gradients of locations (or offsets) and weights (or logits), from the dot products.
  MSDA_SHARED void gradients(const Problem& p, int64_t item) {
    A* raw = static_cast<A*>(p.grad_raw) + 2 * item * count;
    F mean = {};  // of the softmax: d logit = a (d a - sum of a d a)
    for (Block<A>& block : blocks) {
      F* const s = block.dot;
      separate(s);
      for (int c = 0; c < 4; ++c) s[c] = block.corner_inside[c] ? s[c] : F{};
      const F up = s[0] + block.along * (s[1] - s[0]), low = s[2] + block.along * (s[3] - s[2]);
      if (p.grad_raw) {
        const F a = block.inside ? block.weight : F{};
        const F dx = a * block.scale_x * ((s[1] - s[0]) + block.down * ((s[3] - s[2]) - (s[1] - s[0])));
        const F dy = a * block.scale_y * (low - up);
        store_some(raw, pick<Zip<kWidth<A>, 0>, A>(dx, dy), 2 * block.count);
        store_some(raw + kWidth<A>, pick<Zip<kWidth<A>, 1>, A>(dx, dy), 2 * block.count - kWidth<A>);
        raw += 2 * kWidth<A>;
      }
      s[0] = up + block.down * (low - up);
      if (p.reference) mean += block.weight * s[0];  // weights of no point are 0
    }
    if (!p.grad_weights) return;
    mean = across<A>(mean, [](F a, F b) { return a + b; });
    A* to = static_cast<A*>(p.grad_weights) + item * count;
    for (Block<A>& block : blocks) {
      store_some(to, p.reference ? block.weight * (block.dot[0] - mean) : block.dot[0], block.count);
      to += kWidth<A>;
    }
  }
};

}  // namespace
