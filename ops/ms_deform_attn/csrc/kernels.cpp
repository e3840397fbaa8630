// The kernels, compiled once an instruction set: -DMSDA_KERNELS=kernels_avx512 and its compiler flags.
// The maths is in ../README.md, and so are the reasons for the loop orders.
#include "kernels.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "vectors.h"

namespace {

using msda::Problem;

// What depends on the point's index k in 0..levels*points, padded to whole vectors.
template <class A>
struct Points {
  using Int = typename Lanes<A>::Int;
  int64_t count, padded;
  std::vector<A> width, height;        // of the point's level
  std::vector<Int> columns, rows, start;
  std::vector<A> base_x, base_y, scale_x, scale_y;  // x = base_x + scale_x * raw_x, in pixels

  explicit Points(const Problem& p) {
    count = p.levels * p.points;
    padded = (count + kWidth<A> - 1) / kWidth<A> * kWidth<A>;
    for (auto* column : {&width, &height, &base_x, &base_y, &scale_x, &scale_y}) column->assign(padded, A(0));
    for (auto* column : {&columns, &rows, &start}) column->assign(padded, Int(0));
    for (int64_t k = 0; k < count; ++k) {
      const int64_t level = k / p.points;
      rows[k] = Int(p.shapes[2 * level]), columns[k] = Int(p.shapes[2 * level + 1]);
      height[k] = A(rows[k]), width[k] = A(columns[k]);
      start[k] = Int(p.starts[level]);
      base_x[k] = base_y[k] = A(-0.5);
      scale_x[k] = width[k], scale_y[k] = height[k];
    }
  }

  // Fused: x = W r_x - 1/2 + o_x, or with a reference box x = W r_x - 1/2 + (W r_w / 2P) o_x.
  void refer(const Problem& p, int64_t query) {
    const A* r = static_cast<const A*>(p.reference) + query * p.levels * p.reference_size;
    for (int64_t k = 0; k < count; r += p.reference_size)
      for (int64_t end = k + p.points; k < end; ++k) {
        base_x[k] = width[k] * r[0] - A(0.5), base_y[k] = height[k] * r[1] - A(0.5);
        scale_x[k] = p.reference_size == 4 ? width[k] * r[2] / A(2 * p.points) : A(1);
        scale_y[k] = p.reference_size == 4 ? height[k] * r[3] / A(2 * p.points) : A(1);
      }
  }
};

// A vector of points: four corners each. A corner outside its level, and every corner of a point at or beyond
// distance 1 from it or not finite, has its index clamped into the level and weight 0.
template <class A>
struct Corners {
  using V = Lanes<A>;
  typename V::F left, right, top, bottom;      // 1 - lambda, lambda, 1 - mu, mu; 0 where outside
  typename V::F has_left, has_right, has_top, has_bottom;  // 1 or 0
  alignas(64) typename V::Int index[4][kWidth<A>];

  Corners(typename V::F x, typename V::F y, typename V::F width, typename V::F height, typename V::I columns,
          typename V::I rows, typename V::I start) {
    using F = typename V::F;
    using I = typename V::I;
    const F one = splat(A(1));
    const I inside = (x > A(-1)) & (x < width) & (y > A(-1)) & (y < height);  // false for NaN
    x = inside ? x : F{};
    y = inside ? y : F{};
    I x0, y0;
    const F lambda = x - floor_of<A>(x, x0), mu = y - floor_of<A>(y, y0);
    const I x1 = x0 + 1, y1 = y0 + 1;
    const I in_left = inside & (x0 >= 0), in_right = inside & (x1 < columns);
    const I in_top = inside & (y0 >= 0), in_bottom = inside & (y1 < rows);
    has_left = in_left ? one : F{}, has_right = in_right ? one : F{};
    has_top = in_top ? one : F{}, has_bottom = in_bottom ? one : F{};
    left = in_left ? one - lambda : F{}, right = in_right ? lambda : F{};
    top = in_top ? one - mu : F{}, bottom = in_bottom ? mu : F{};
    const I zero = {};
    const I column0 = x0 < 0 ? zero : x0, column1 = x1 < columns ? x1 : columns - 1;
    const I row0 = start + (y0 < 0 ? zero : y0) * columns, row1 = start + (y1 < rows ? y1 : rows - 1) * columns;
    store(index[0], row0 + column0), store(index[1], row0 + column1);
    store(index[2], row1 + column0), store(index[3], row1 + column1);
  }
};

// Pixel coordinates and corners of the points k.. of one (query, head), whose raw numbers start at `raw`.
template <class A>
struct Located {
  typename Lanes<A>::F scale_x, scale_y;
  Corners<A> corners;

  Located(const Points<A>& points, const A* raw, int64_t k)
      : Located(points, k, load_some(raw + 2 * k, 2 * (points.count - k)),
                load_some(raw + 2 * k + kWidth<A>, 2 * (points.count - k) - kWidth<A>)) {}

 private:
  using F = typename Lanes<A>::F;
  using I = typename Lanes<A>::I;

  // `first` and `second` hold x0 y0 x1 y1 ...
  Located(const Points<A>& p, int64_t k, F first, F second)
      : scale_x(load<F>(&p.scale_x[k])),
        scale_y(load<F>(&p.scale_y[k])),
        corners(load<F>(&p.base_x[k]) + scale_x * pick<Unzip<kWidth<A>, 0>, A>(first, second),
                load<F>(&p.base_y[k]) + scale_y * pick<Unzip<kWidth<A>, 1>, A>(first, second),
                load<F>(&p.width[k]), load<F>(&p.height[k]), load<I>(&p.columns[k]), load<I>(&p.rows[k]),
                load<I>(&p.start[k])) {}
};

template <class A, class Combine>
inline A across(typename Lanes<A>::F v, const Combine& combine) {
  alignas(64) A lanes[kWidth<A>];
  store(lanes, v);
  for (int half = kWidth<A> / 2; half; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  return lanes[0];
}

// Weights of the points of one (query, head), from logits. `to` holds whole vectors; lanes beyond `count` get 0.
template <class A>
void softmax(const A* logits, int64_t count, A* to) {
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>;
  F greatest = splat(-std::numeric_limits<A>::infinity());
  for (int64_t k = 0; k < count; k += w) {
    const F z = first_lanes<A>(count - k) ? load_some(logits + k, count - k) : greatest;
    store(to + k, z);
    greatest = z <= greatest ? greatest : z;  // NaN wins
  }
  greatest = F{} + across<A>(greatest, [](A a, A b) { return b <= a ? a : b; });
  F sum = {};
  for (int64_t k = 0; k < count; k += w) {
    F e = exp_of(load<F>(to + k) - greatest);
    e = first_lanes<A>(count - k) ? e : F{};
    store(to + k, e);
    sum += e;
  }
  const A scale = A(1) / across<A>(sum, [](A a, A b) { return a + b; });
  for (int64_t k = 0; k < count; k += w) store(to + k, load<F>(to + k) * scale);
}

// Memory on a cache line's boundary: a row that begins elsewhere takes twice the loads.
template <class A>
class Aligned {
 public:
  A* of(int64_t count) {
    memory_.resize(count + 64 / sizeof(A));
    return reinterpret_cast<A*>((reinterpret_cast<uintptr_t>(memory_.data()) + 63) & ~uintptr_t(63));
  }

 private:
  std::vector<A> memory_;
};

// What one thread keeps while it works: the tables of the points, and room for the numbers of one item, which
// is one (query, head).
template <class A>
struct Bench {
  Points<A> points;
  std::vector<A> probabilities, grad_weights, sums_of_row;

  explicit Bench(const Problem& p)
      : points(p), probabilities(points.padded), grad_weights(points.padded), sums_of_row(p.channels) {}

  // The item's weights.
  const A* weights_of(const Problem& p, int64_t item) {
    const A* weights = static_cast<const A*>(p.weights) + item * points.count;
    if (!p.reference) return weights;
    softmax(weights, points.count, probabilities.data());
    return probabilities.data();
  }
};

// `column` is the head's first pixel in its image, `stride` from one pixel to the next.
template <class T, int vectors>
void forward_item(const Problem& p, Bench<typename Accumulates<T>::Type>& bench, int64_t query, int64_t head,
                  const T* column, int64_t stride) {
  using A = typename Accumulates<T>::Type;
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>;
  const int64_t count = bench.points.count, tail = p.channels / w * w;
  const int64_t item = query * p.heads + head;
  const A* raw = static_cast<const A*>(p.raw) + 2 * item * count;
  const A* weights = bench.weights_of(p, item);
  T* out = static_cast<T*>(p.output) + item * p.channels;
  // Two chains of sums where the registers allow it.
  constexpr int chains = vectors > 0 && vectors <= 4 ? 2 : 1;
  F sum[chains][vectors > 0 ? vectors : 1] = {};
  A* sums_of_row = bench.sums_of_row.data();
  if constexpr (vectors < 0) std::fill_n(sums_of_row, p.channels, A(0));

  for (int64_t k = 0; k < count; k += w) {
    const Located<A> at(bench.points, raw, k);
    const F a = load_some(weights + k, count - k);
    alignas(64) A weight[4][w];
    store(weight[0], a * at.corners.top * at.corners.left);
    store(weight[1], a * at.corners.top * at.corners.right);
    store(weight[2], a * at.corners.bottom * at.corners.left);
    store(weight[3], a * at.corners.bottom * at.corners.right);
    const int64_t many = std::min<int64_t>(w, count - k);
    for (int64_t j = 0; j < many; ++j) {
      for (int corner = 0; corner < 4; ++corner) {
        const T* row = column + int64_t(at.corners.index[corner][j]) * stride;
        const A share = weight[corner][j];
        if constexpr (vectors > 0) {
          for (int v = 0; v < vectors; ++v) sum[corner % chains][v] += share * widen(row + v * w);
        } else {
          for (int64_t c = 0; c < tail; c += w) store(sums_of_row + c, load<F>(sums_of_row + c) + share * widen(row + c));
          for (int64_t c = tail; c < p.channels; ++c) sums_of_row[c] += share * widen_one(row[c]);
        }
      }
    }
  }
  if constexpr (vectors > 0) {
    for (int v = 0; v < vectors; ++v)
      narrow_lanes<A>(chains == 2 ? sum[0][v] + sum[chains - 1][v] : sum[0][v], out + v * w);
  } else {
    for (int64_t c = 0; c < p.channels; ++c) narrow(sums_of_row[c], out + c);
  }
}

// Gradients of locations (or offsets) and weights (or logits): four dot products a point give all.
template <class T, int vectors>
void dots_item(const Problem& p, Bench<typename Accumulates<T>::Type>& bench, int64_t query, int64_t head,
               const T* column, int64_t stride) {
  using A = typename Accumulates<T>::Type;
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>;
  const int64_t count = bench.points.count, tail = p.channels / w * w;
  const int64_t item = query * p.heads + head;
  const A* raw = static_cast<const A*>(p.raw) + 2 * item * count;
  const A* weights = bench.weights_of(p, item);
  if (p.softmax) std::memcpy(static_cast<A*>(p.softmax) + item * count, weights, count * sizeof(A));
  if (!p.grad_raw && !p.grad_weights) return;
  const T* grad = static_cast<const T*>(p.grad_output) + item * p.channels;
  F g[vectors > 0 ? vectors : 1];
  if constexpr (vectors > 0)
    for (int v = 0; v < vectors; ++v) g[v] = widen(grad + v * w);
  A* grad_weights = bench.grad_weights.data();

  for (int64_t k = 0; k < count; k += w) {
    const Located<A> at(bench.points, raw, k);
    const int64_t many = std::min<int64_t>(w, count - k);
    F s[4];
    for (int corner = 0; corner < 4; ++corner) {
      F products[w];
      for (int j = 0; j < w; ++j) {
        products[j] = F{};
        if (j >= many) continue;
        const T* row = column + int64_t(at.corners.index[corner][j]) * stride;
        if constexpr (vectors > 0) {
          for (int v = 0; v < vectors; ++v) products[j] += g[v] * widen(row + v * w);
        } else {
          for (int64_t c = 0; c < tail; c += w) products[j] += widen(grad + c) * widen(row + c);
          A rest = 0;
          for (int64_t c = tail; c < p.channels; ++c) rest += widen_one(grad[c]) * widen_one(row[c]);
          products[j][0] += rest;
        }
      }
      s[corner] = sums<A>(products);
    }
    const Corners<A>& c = at.corners;
    const F a = load_some(weights + k, count - k);
    const F up = c.left * s[0] + c.right * s[1], down = c.left * s[2] + c.right * s[3];
    store(grad_weights + k, c.top * up + c.bottom * down);  // 0 for lanes of no point: their sums are
    if (p.grad_raw) {
      F dx = a * (c.top * (c.has_right * s[1] - c.has_left * s[0]) +
                  c.bottom * (c.has_right * s[3] - c.has_left * s[2]));
      F dy = a * (c.has_bottom * down - c.has_top * up);
      dx *= at.scale_x, dy *= at.scale_y;
      A* to = static_cast<A*>(p.grad_raw) + 2 * (item * count + k);
      store_some(to, pick<Zip<w, 0>, A>(dx, dy), 2 * many);
      if (2 * many > w) store_some(to + w, pick<Zip<w, 1>, A>(dx, dy), 2 * many - w);
    }
  }
  if (!p.grad_weights) return;
  A* to = static_cast<A*>(p.grad_weights) + item * count;
  A mean = 0;  // of the softmax: d logit = a (d a - sum of a d a)
  if (p.reference) {
    F sum = {};  // probabilities beyond `count` are 0
    for (int64_t k = 0; k < count; k += w) sum += load<F>(weights + k) * load<F>(grad_weights + k);
    mean = across<A>(sum, [](A a, A b) { return a + b; });
  }
  for (int64_t k = 0; k < count; k += w) {
    const F d = load<F>(grad_weights + k);
    store_some(to + k, p.reference ? load<F>(weights + k) * (d - mean) : d, count - k);
  }
}

// Inlined by force: GCC takes a function that only prefetches for one without effect, and drops its calls.
#define MSDA_INLINE inline __attribute__((always_inline))

// Calls the lines of an array's part for one item; `write` where it will be written.
template <bool write, class A>
MSDA_INLINE void call(const void* array, int64_t item, int64_t size) {
  if (!array) return;
  const uintptr_t from = reinterpret_cast<uintptr_t>(static_cast<const A*>(array) + item * size);
  // Whole vectors are asked for: one whose last lanes are masked out waits for their line as well.
  const uintptr_t end = from + (size + kWidth<A> - 1) / kWidth<A> * kWidth<A> * sizeof(A);
  for (uintptr_t line = from & ~uintptr_t(63); line < end; line += 64)
    __builtin_prefetch(reinterpret_cast<const void*>(line), write);
}

// Asks for what the item will read and write. Items of one head lie apart: the processor does not see them come.
template <class T>
MSDA_INLINE void call_item(const Problem& p, int64_t item, int64_t count) {
  using A = typename Accumulates<T>::Type;
  call<false, A>(p.raw, item, 2 * count);
  call<false, A>(p.weights, item, count);
  call<false, T>(p.grad_output, item, p.channels);
  call<true, T>(p.output, item, p.channels);
  call<true, A>(p.grad_raw, item, 2 * count);
  call<true, A>(p.grad_weights, item, count);
}

// Hands the items of the tasks begin..end to `item(query, head, column, stride)`. A task is Problem::block
// queries of one image, in the order of their turns, with one head or, unless Problem::by_head, with all.
template <class T, class Item>
void each_item(const Problem& p, Bench<typename Accumulates<T>::Type>& bench, int64_t begin, int64_t end,
               const Item& item) {
  const int64_t blocks = (p.queries + p.block - 1) / p.block, groups = p.by_head ? p.heads : 1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t image = task / blocks / groups, group = task / blocks % groups;
    const int64_t first = task % blocks * p.block, last = std::min(first + p.block, p.queries);
    const int64_t first_head = p.by_head ? group : 0, last_head = p.by_head ? group + 1 : p.heads;
    const auto visited = [&](int64_t turn) { return image * p.queries + (p.order ? p.order[turn] : turn); };
    const T* values = static_cast<const T*>(p.value) + image * p.pixels * p.heads * p.channels;
    for (int64_t turn = first; turn < last; ++turn) {
      if (p.reference) bench.points.refer(p, visited(turn));
      if (p.by_head) call_item<T>(p, visited(std::min(turn + 6, last - 1)) * p.heads + group, bench.points.count);
      for (int64_t head = first_head; head < last_head; ++head)  // one place, so that `item` is inlined here
        item(visited(turn), head, values + head * p.head_stride, p.pixel_stride);
    }
  }
}

template <class T, int vectors>
void forward(const Problem& p, int64_t begin, int64_t end) {
  Bench<typename Accumulates<T>::Type> bench(p);
  each_item<T>(p, bench, begin, end, [&](auto... item) { forward_item<T, vectors>(p, bench, item...); });
}

template <class T, int vectors>
void dots(const Problem& p, int64_t begin, int64_t end) {
  Bench<typename Accumulates<T>::Type> bench(p);
  each_item<T>(p, bench, begin, end, [&](auto... item) { dots_item<T, vectors>(p, bench, item...); });
}

// The gradient of value, owned: one task is (image, head, level, part of the channels), and no two tasks write
// to the same place. So the sums are added in the order of the queries, whatever the threads.
template <class T, int vectors>
void scatter(const Problem& p, int64_t begin, int64_t end) {
  using A = typename Accumulates<T>::Type;
  using V = Lanes<A>;
  using F = typename V::F;
  constexpr int w = kWidth<A>;
  const int64_t stride = p.heads * p.channels;
  const int64_t part_channels = p.channels / p.channel_parts;
  const int64_t whole = vectors > 0 ? vectors : part_channels / w, tail = whole * w;
  const int64_t count = p.levels * p.points;
  Aligned<A> own;

  for (int64_t task = begin; task < end; ++task) {
    const int64_t part = task % p.channel_parts, level = task / p.channel_parts % p.levels;
    const int64_t head = task / p.channel_parts / p.levels % p.heads;
    const int64_t image = task / p.channel_parts / p.levels / p.heads;
    const int64_t rows = p.shapes[2 * level], columns = p.shapes[2 * level + 1], area = rows * columns;
    const int64_t first = head * p.channels + part * part_channels;
    T* gradient = static_cast<T*>(p.grad_value) + (image * p.pixels + p.starts[level]) * stride + first;

    // A private copy of the level, unless few points fall into a large one.
    bool direct = false;
    A* target = nullptr;
    int64_t pitch = part_channels;
    if constexpr (sizeof(A) == sizeof(T)) direct = 4 * p.queries * p.points < area;
    if (direct) {
      for (int64_t pixel = 0; pixel < area; ++pixel)
        std::memset(static_cast<void*>(gradient + pixel * stride), 0, part_channels * sizeof(T));
      target = reinterpret_cast<A*>(gradient), pitch = stride;
    } else {
      target = own.of(area * part_channels);
      std::fill_n(target, area * part_channels, A(0));
    }

    alignas(64) A xs[w] = {}, ys[w] = {}, shares[w] = {};
    const T* grads[w];
    int filled = 0;
    const auto flush = [&] {
      const typename V::I start = {};
      const Corners<A> c(load<F>(xs), load<F>(ys), splat(A(columns)), splat(A(rows)),
                         start + typename V::Int(columns), start + typename V::Int(rows), start);
      const F a = load<F>(shares);
      alignas(64) A weight[4][w];
      store(weight[0], a * c.top * c.left), store(weight[1], a * c.top * c.right);
      store(weight[2], a * c.bottom * c.left), store(weight[3], a * c.bottom * c.right);
      for (int j = 0; j < filled; ++j) {
        F g[vectors > 0 ? vectors : 1];
        if constexpr (vectors > 0)
          for (int v = 0; v < vectors; ++v) g[v] = widen(grads[j] + v * w);
        for (int corner = 0; corner < 4; ++corner) {
          const A share = weight[corner][j];
          if (share == A(0)) continue;  // outside: the clamped row belongs to another pixel
          A* row = target + int64_t(c.index[corner][j]) * pitch;
          if constexpr (vectors > 0) {
            for (int v = 0; v < vectors; ++v) store(row + v * w, load<F>(row + v * w) + share * g[v]);
          } else {
            for (int64_t i = 0; i < tail; i += w) store(row + i, load<F>(row + i) + share * widen(grads[j] + i));
            for (int64_t i = tail; i < part_channels; ++i) row[i] += share * widen_one(grads[j][i]);
          }
        }
      }
      filled = 0;
    };

    const A width = A(columns), height = A(rows);
    for (int64_t q = 0; q < p.queries; ++q) {
      const int64_t query = image * p.queries + q, item = query * p.heads + head;
      const int64_t later = (image * p.queries + std::min(q + 8, p.queries - 1)) * p.heads + head;
      call<false, A>(p.raw, later * p.levels + level, 2 * p.points);
      call<false, A>(p.reference ? p.softmax : p.weights, later * p.levels + level, p.points);
      call<false, T>(p.grad_output, later * p.channel_parts + part, part_channels);
      const A* raw = static_cast<const A*>(p.raw) + 2 * (item * count + level * p.points);
      const A* weights = static_cast<const A*>(p.reference ? p.softmax : p.weights) + item * count + level * p.points;
      const T* grad = static_cast<const T*>(p.grad_output) + query * stride + first;
      A base_x = A(-0.5), base_y = A(-0.5), scale_x = width, scale_y = height;
      if (p.reference) {
        const A* r = static_cast<const A*>(p.reference) + (query * p.levels + level) * p.reference_size;
        base_x = width * r[0] - A(0.5), base_y = height * r[1] - A(0.5);
        scale_x = p.reference_size == 4 ? width * r[2] / A(2 * p.points) : A(1);
        scale_y = p.reference_size == 4 ? height * r[3] / A(2 * p.points) : A(1);
      }
      for (int64_t point = 0; point < p.points; ++point) {
        xs[filled] = base_x + scale_x * raw[2 * point], ys[filled] = base_y + scale_y * raw[2 * point + 1];
        shares[filled] = weights[point], grads[filled] = grad;
        if (++filled == w) flush();
      }
    }
    flush();

    if (!direct)
      for (int64_t pixel = 0; pixel < area; ++pixel) {
        const A* from = target + pixel * part_channels;
        T* to = gradient + pixel * stride;
        for (int64_t c = 0; c < tail; c += w) narrow_lanes<A>(load<F>(from + c), to + c);
        for (int64_t c = tail; c < part_channels; ++c) narrow(from[c], to + c);
      }
  }
}

// Rows of a usual width get code of their own, the others share one that takes any. Each row of code is
// a tenth of a second of building, so half types have two and double has one.
#define MSDA_BY_WIDTH(kernel)                                                                     \
  template <class T>                                                                              \
  void kernel##_any(const Problem& p, int64_t begin, int64_t end) {                               \
    const int64_t channels = p.channels / p.channel_parts;                                        \
    constexpr int w = kWidth<float>;                                                              \
    if constexpr (sizeof(T) <= 4)                                                                 \
      if (channels == 32) return kernel<T, 32 / w>(p, begin, end);                                \
    if constexpr (sizeof(T) == 4) {                                                               \
      if (channels == 16) return kernel<T, 16 / w>(p, begin, end);                                \
      if (channels == 64) return kernel<T, 64 / w>(p, begin, end);                                \
    }                                                                                             \
    return kernel<T, -1>(p, begin, end);                                                          \
  }

MSDA_BY_WIDTH(forward)
MSDA_BY_WIDTH(dots)
MSDA_BY_WIDTH(scatter)

template <class T>
msda::Kernels kernels_of() {
  return {forward_any<T>, dots_any<T>, scatter_any<T>};
}

}  // namespace

namespace msda {

Kernels MSDA_KERNELS(Type type) {
  switch (type) {
    case Type::kFloat: return kernels_of<float>();
    case Type::kDouble: return kernels_of<double>();
    case Type::kHalf: return kernels_of<Half>();
    default: return kernels_of<BFloat16>();
  }
}

}  // namespace msda
