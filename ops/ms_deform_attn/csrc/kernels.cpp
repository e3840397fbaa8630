// The kernels, compiled once an instruction set: -DMSDA_KERNELS=kernels_avx512 and its compiler flags.
// The maths is in ../README.md, and so are the reasons for the loop orders.
#include "kernels.h"

#include <algorithm>
#include <vector>

#include "points.h"
#include "vectors.h"

// Inlined by force: GCC takes a function that only prefetches for one without effect, and drops its calls.
#define MSDA_INLINE inline __attribute__((always_inline))

namespace {

// Channels are added up in slices of 32, which stay in registers; the rest vector by vector.
template <class A>
constexpr int kSlice = std::min(32 / kWidth<A>, 8);

// `vectors` vectors of the output, or the first `some` channels of one. `column` is the head's first pixel in
// its image, `stride` from one pixel to the next.
template <class T, int vectors, class A>
MSDA_INLINE void add_rows(const Bench<A>& bench, const T* column, int64_t stride, T* out, int64_t some = 0) {
  using F = typename Lanes<A>::F;
  constexpr int chains = vectors <= 4 ? 2 : 1;  // two chains of sums where the registers allow it
  F sum[chains][vectors] = {};
  for (const Block<A>& block : bench.blocks)
    for (int j = 0; j < block.count; ++j) {
      if (!block.inside[j]) continue;
      for (int c = 0; c < 4; ++c) {
        const T* row = column + int64_t(block.index[c][j]) * stride;
        for (int v = 0; v < vectors; ++v)
          sum[c % chains][v] += block.share[c][j] * (some ? widen_some(row, some) : widen(row + v * kWidth<A>));
      }
    }
  for (int v = 0; v < vectors; ++v) {
    const F total = chains == 2 ? sum[0][v] + sum[chains - 1][v] : sum[0][v];
    if (some) narrow_some(total, out, some);
    else narrow(total, out + v * kWidth<A>);
  }
}

template <class T, class A>
void forward_item(const Problem& p, Bench<A>& bench, int64_t query, int64_t head, const T* column, int64_t stride) {
  constexpr int w = kWidth<A>, slice = kSlice<A> * w;
  const int64_t item = query * p.heads + head;
  bench.place(p, item);
  T* out = static_cast<T*>(p.output) + item * p.channels;
  int64_t c = 0;
  for (; c + slice <= p.channels; c += slice) add_rows<T, kSlice<A>>(bench, column + c, stride, out + c);
  for (; c < p.channels; c += w) add_rows<T, 1>(bench, column + c, stride, out + c, p.channels - c);
}

// Four dot products a point give the gradients of locations and weights.
template <class T, class A>
void dots_item(const Problem& p, Bench<A>& bench, int64_t query, int64_t head, const T* column, int64_t stride) {
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>, slice = kSlice<A> * w;
  const int64_t item = query * p.heads + head, whole = p.channels / slice * slice;
  bench.place(p, item);
  if (p.softmax) bench.keep_weights(p, item);
  if (!p.grad_raw && !p.grad_weights) return;
  const T* grad = static_cast<const T*>(p.grad_output) + item * p.channels;
  for (Block<A>& block : bench.blocks)
    for (int corner = 0; corner < 4; ++corner) {
      F products[w] = {};
      for (int64_t c = 0; c < whole; c += slice) {
        F g[kSlice<A>];
        for (int v = 0; v < kSlice<A>; ++v) g[v] = widen(grad + c + v * w);
        for (int j = 0; j < w; ++j) {
          if (!block.inside[j]) continue;
          const T* row = column + int64_t(block.index[corner][j]) * stride + c;
          for (int v = 0; v < kSlice<A>; ++v) products[j] += g[v] * widen(row + v * w);
        }
      }
      for (int64_t c = whole; c < p.channels; c += w) {
        const F g = widen_some(grad + c, p.channels - c);
        for (int j = 0; j < block.count; ++j) {
          if (!block.inside[j]) continue;
          const T* row = column + int64_t(block.index[corner][j]) * stride + c;
          products[j] += g * widen_some(row, p.channels - c);
        }
      }
      block.dot[corner] = sums<A>(products);
    }
  bench.gradients(p, item);
}

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

// Hands the items of the tasks begin..end to `work(bench, query, head, column, stride)`. A task is
// Problem::block queries of one image, in the order of their turns, with one head or, unless
// Problem::by_head, with all.
template <class T, class Work>
void each_item(const Problem& p, int64_t begin, int64_t end, const Work& work) {
  Bench<typename Accumulates<T>::Type> bench(p);
  const int64_t blocks = (p.queries + p.block - 1) / p.block, groups = p.by_head ? p.heads : 1;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t image = task / blocks / groups, group = task / blocks % groups;
    const int64_t first = task % blocks * p.block, last = std::min(first + p.block, p.queries);
    const int64_t first_head = p.by_head ? group : 0, last_head = p.by_head ? group + 1 : p.heads;
    const auto visited = [&](int64_t turn) { return image * p.queries + (p.order ? p.order[turn] : turn); };
    const T* values = static_cast<const T*>(p.value) + image * p.pixels * p.heads * p.channels;
    for (int64_t turn = first; turn < last; ++turn) {
      if (p.reference) bench.refer(p, visited(turn));
      if (p.by_head) call_item<T>(p, visited(std::min(turn + 6, last - 1)) * p.heads + group, bench.count);
      for (int64_t head = first_head; head < last_head; ++head)  // one place, so that `work` is inlined here
        work(bench, visited(turn), head, values + head * p.head_stride, p.pixel_stride);
    }
  }
}

template <class T>
void forward(const Problem& p, int64_t begin, int64_t end) {
  each_item<T>(p, begin, end, [&](auto& bench, auto... item) { forward_item<T>(p, bench, item...); });
}

template <class T>
void dots(const Problem& p, int64_t begin, int64_t end) {
  each_item<T>(p, begin, end, [&](auto& bench, auto... item) { dots_item<T>(p, bench, item...); });
}

// One level of the gradient of value, for one head and a part of the channels: where its rows are added up.
template <class A>
struct Target {
  A* rows;
  int64_t pitch, channels;
  std::vector<typename Lanes<A>::F> own;  // vectors lie on a cache line's boundary: else a row takes twice the loads

  void clear(int64_t area) {
    if (!own.empty()) return std::fill(own.begin(), own.end(), typename Lanes<A>::F{});
    for (int64_t pixel = 0; pixel < area; ++pixel)
      std::memset(static_cast<void*>(rows + pixel * pitch), 0, channels * sizeof(A));
  }
};

// Adds share * gradient to the corners' rows of the first `filled` points.
template <class T, class A>
void add_gradients(const Target<A>& target, const Block<A>& block, const T* const* grads, int filled) {
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>, slice = kSlice<A> * w;
  for (int j = 0; j < filled; ++j) {
    if (!block.inside[j]) continue;
    int64_t c = 0;
    for (; c + slice <= target.channels; c += slice) {
      F g[kSlice<A>];
      for (int v = 0; v < kSlice<A>; ++v) g[v] = widen(grads[j] + c + v * w);
      for (int corner = 0; corner < 4; ++corner) {
        if (!block.corner_inside[corner][j]) continue;  // the clamped row belongs to another pixel
        const A share = block.share[corner][j];
        A* row = target.rows + int64_t(block.index[corner][j]) * target.pitch + c;
        for (int v = 0; v < kSlice<A>; ++v) store(row + v * w, load<F>(row + v * w) + share * g[v]);
      }
    }
    for (; c < target.channels; c += w) {
      const int64_t some = target.channels - c;
      const F g = widen_some(grads[j] + c, some);
      for (int corner = 0; corner < 4; ++corner) {
        if (!block.corner_inside[corner][j]) continue;
        A* row = target.rows + int64_t(block.index[corner][j]) * target.pitch + c;
        store_some(row, load_some(row, some) + block.share[corner][j] * g, some);
      }
    }
  }
}

// The gradient of value, owned: one task is (image, head, level, part of the channels), and no two tasks write
// to the same place. So the sums are added in the order of the queries, whatever the threads.
template <class T>
void scatter(const Problem& p, int64_t begin, int64_t end) {
  using A = typename Accumulates<T>::Type;
  using V = Lanes<A>;
  constexpr int w = kWidth<A>;
  const int64_t stride = p.heads * p.channels, channels = p.channels / p.channel_parts;
  const int64_t count = p.levels * p.points;
  const A* const weights = static_cast<const A*>(p.reference ? p.softmax : p.weights);

  for (int64_t task = begin; task < end; ++task) {
    const int64_t part = task % p.channel_parts, level = task / p.channel_parts % p.levels;
    const int64_t head = task / p.channel_parts / p.levels % p.heads;
    const int64_t image = task / p.channel_parts / p.levels / p.heads;
    const int64_t rows = p.shapes[2 * level], columns = p.shapes[2 * level + 1], area = rows * columns;
    const int64_t first = head * p.channels + part * channels;
    T* gradient = static_cast<T*>(p.grad_value) + (image * p.pixels + p.starts[level]) * stride + first;

    // A private copy of the level, unless few points fall into a large one.
    Target<A> target{reinterpret_cast<A*>(gradient), stride, channels, {}};
    if (sizeof(A) != sizeof(T) || 4 * p.queries * p.points >= area) {
      const int64_t vectors = (channels + w - 1) / w;
      target.own.resize(area * vectors);
      target.rows = reinterpret_cast<A*>(target.own.data()), target.pitch = vectors * w;
    }
    target.clear(area);

    Block<A> block;
    block.columns += typename V::Int(columns + 1), block.rows += typename V::Int(rows + 1);
    block.width += A(columns), block.height += A(rows);
    alignas(64) A xs[w] = {}, ys[w] = {}, shares[w] = {};
    const T* grads[w];
    const auto flush = [&] {
      block.weight = load<typename V::F>(shares);
      block.place(load<typename V::F>(xs), load<typename V::F>(ys));
      add_gradients(target, block, grads, block.count);
      block.count = 0;
    };

    for (int64_t q = 0; q < p.queries; ++q) {
      const int64_t query = image * p.queries + q, item = query * p.heads + head;
      const int64_t later = (image * p.queries + std::min(q + 8, p.queries - 1)) * p.heads + head;
      call<false, A>(p.raw, later * p.levels + level, 2 * p.points);
      call<false, A>(weights, later * p.levels + level, p.points);
      call<false, T>(p.grad_output, later * p.channel_parts + part, channels);
      const A* raw = static_cast<const A*>(p.raw) + 2 * (item * count + level * p.points);
      const Frame<A> frame(p, query, level);
      for (int64_t point = 0; point < p.points; ++point) {
        const int lane = block.count++;
        xs[lane] = frame.base_x + frame.scale_x * raw[2 * point];
        ys[lane] = frame.base_y + frame.scale_y * raw[2 * point + 1];
        shares[lane] = weights[item * count + level * p.points + point];
        grads[lane] = static_cast<const T*>(p.grad_output) + query * stride + first;
        if (block.count == w) flush();
      }
    }
    flush();

    if (!target.own.empty())
      for (int64_t pixel = 0; pixel < area; ++pixel)
        for (int64_t c = 0; c < channels; c += w)
          narrow_some(load<typename V::F>(target.rows + pixel * target.pitch + c), gradient + pixel * stride + c,
                      channels - c);
  }
}

template <class T>
msda::Kernels kernels_of() {
  return {forward<T>, dots<T>, scatter<T>};
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
