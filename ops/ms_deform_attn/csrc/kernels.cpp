// The kernels, compiled once an instruction set: -DMSDA_KERNELS=kernels_avx512 and its compiler flags.
// The maths is in ../README.md, and so are the reasons for the loop orders.
#include "kernels.h"

#include <algorithm>
#include <utility>
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

// Four dot products a point give the gradients of locations and weights. A point outside takes part, with rows
// that it does not use, and nothing comes of it: no branch is dearer.
template <class T, class A>
MSDA_INLINE void dots_item(const Problem& p, Bench<A>& bench, int64_t query, int64_t head, const T* column, int64_t stride) {
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>, slice = kSlice<A> * w;
  const int64_t item = query * p.heads + head, whole = p.channels / slice * slice;
  bench.place(p, item);
  const T* grad = static_cast<const T*>(p.grad_output) + item * p.channels;
  for (Block<A>& block : bench.blocks)
    for (int first = 0; first < 4 * block.count; first += w) {  // point by point, and corner by corner
      F products[w] = {};  // in registers, as long as every loop over them is unrolled
      const auto row = [&](int i) { return column + int64_t(block.index[(first + i) % 4][(first + i) / 4]) * stride; };
      for (int64_t c = 0; c < whole; c += slice) {
        F g[kSlice<A>];
        for (int v = 0; v < kSlice<A>; ++v) g[v] = widen(grad + c + v * w);
#pragma GCC unroll 16
        for (int i = 0; i < w; ++i)
          for (int v = 0; v < kSlice<A>; ++v) products[i] += g[v] * widen(row(i) + c + v * w);
      }
      for (int64_t c = whole; c < p.channels; c += w) {
        const F g = widen_some(grad + c, p.channels - c);
#pragma GCC unroll 16
        for (int i = 0; i < w; ++i) products[i] += g * widen_some(row(i) + c, p.channels - c);
      }
      block.dot[first / w] = sums<A>(products);
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

// Asks for what an item will read and write. Items of one head lie apart: the processor does not see them come.
template <class T>
MSDA_INLINE void call_item(const Problem& p, int64_t image, int64_t turn, int64_t head, int64_t count) {
  using A = typename Accumulates<T>::Type;
  const int64_t item = p.query(image, std::min(turn, p.queries - 1)) * p.heads + head;
  call<false, A>(p.raw, item, 2 * count);
  call<false, A>(p.weights, item, count);
  call<false, T>(p.grad_output, item, p.channels);
  call<true, T>(p.output, item, p.channels);
  call<true, A>(p.grad_raw, item, 2 * count);
  call<true, A>(p.grad_weights, item, count);
}

// The rows of one head, in value itself or in the thread's own copy, where they lie side by side.
template <class T>
struct Column {
  const T *source = nullptr, *rows = nullptr;
  int64_t stride = 0;
  std::vector<typename Lanes<typename Accumulates<T>::Type>::F> own;  // vectors lie on a cache line's boundary

  void take(const Problem& p, int64_t image, int64_t head) {
    const T* const from = static_cast<const T*>(p.value) + (image * p.pixels * p.heads + head) * p.channels;
    const T* const before = std::exchange(source, from);
    rows = from, stride = p.heads * p.channels;
    if (!p.copy_heads) return;
    own.resize((p.pixels * p.channels * sizeof(T) + MSDA_BYTES - 1) / MSDA_BYTES);
    T* const to = reinterpret_cast<T*>(own.data());
    for (int64_t pixel = 0; from != before && pixel < p.pixels; ++pixel)
      std::memcpy(to + pixel * p.channels, from + pixel * stride, p.channels * sizeof(T));
    rows = to, stride = p.channels;
  }
};

// Hands the items of the tasks begin..end to `work(bench, query, head, column, stride)`. A task is
// Problem::block queries of one image, in the order of their turns, with one head.
template <class T, class Work>
void each_item(const Problem& p, int64_t begin, int64_t end, const Work& work) {
  Bench<typename Accumulates<T>::Type> bench(p);
  Column<T> column;
  const int64_t blocks = (p.queries + p.block - 1) / p.block;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t image = task / blocks / p.heads, head = task / blocks % p.heads;
    const int64_t first = task % blocks * p.block, last = std::min(first + p.block, p.queries);
    column.take(p, image, head);
    for (int64_t turn = first; turn < last; ++turn) {
      const int64_t query = p.query(image, turn);
      call_item<T>(p, image, turn + 6, head, bench.count);
      if (p.reference) bench.refer(p, query);
      work(bench, query, head, column.rows, column.stride);
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

// Adds share * gradient to the corners' rows of the points first..last. Row 0 is that of pixel `from`.
template <class T, class A>
MSDA_INLINE void add_gradients(const Bench<A>& bench, int64_t first, int64_t last, const T* grad, int64_t channels,
                               A* rows, int64_t from, int64_t pitch) {
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>, slice = kSlice<A> * w;
  // A corner outside has share 0, and its clamped row is that of a corner inside.
  const auto each_row = [&](const auto& add) {
    for (int64_t k = first / w * w; k < last; k += w) {
      const Block<A>& block = bench.blocks[k / w];
      const int end = int(std::min<int64_t>(last - k, w));
      for (int j = int(std::max<int64_t>(first - k, 0)); j < end; ++j) {
        if (!block.inside[j]) continue;
        for (int c = 0; c < 4; ++c) add(rows + (block.index[c][j] - from) * pitch, block.share[c][j]);
      }
    }
  };
  int64_t c = 0;
  for (; c + slice <= channels; c += slice) {
    F g[kSlice<A>];
    for (int v = 0; v < kSlice<A>; ++v) g[v] = widen(grad + c + v * w);
    each_row([&](A* row, A share) {
      for (int v = 0; v < kSlice<A>; ++v)
        store(row + c + v * w, load<F>(row + c + v * w) + share * g[v]);
    });
  }
  for (; c < channels; c += w) {
    const int64_t some = channels - c;
    const F g = widen_some(grad + c, some);
    each_row([&](A* row, A share) { store_some(row + c, load_some(row + c, some) + share * g, some); });
  }
}

// The gradient of value, owned: one task is (image, head, all levels or one, part of the channels), and no two
// tasks write to the same place. So the sums are added in the order of the queries, whatever the threads. Where
// a task has all of an item, the other gradients may be made on the way.
template <class T>
void scatter(const Problem& p, int64_t begin, int64_t end) {
  using A = typename Accumulates<T>::Type;
  using F = typename Lanes<A>::F;
  constexpr int w = kWidth<A>;
  const int64_t stride = p.heads * p.channels, channels = p.channels / p.channel_parts;
  const int64_t level_parts = p.by_level ? p.levels : 1;
  const bool dots = p.grad_raw || p.grad_weights;
  Bench<A> bench(p);
  Column<T> column;
  std::vector<F> own;  // vectors lie on a cache line's boundary: else a row takes twice the loads

  for (int64_t task = begin; task < end; ++task) {
    const int64_t part = task % p.channel_parts, level = task / p.channel_parts % level_parts;
    const int64_t head = task / p.channel_parts / level_parts % p.heads;
    const int64_t image = task / p.channel_parts / level_parts / p.heads;
    const int64_t from = p.by_level ? p.starts[level] : 0;
    const int64_t area = p.by_level ? p.shapes[2 * level] * p.shapes[2 * level + 1] : p.pixels;
    const int64_t first = p.by_level ? level * p.points : 0, last = p.by_level ? first + p.points : bench.count;
    if (dots) column.take(p, image, head);
    T* gradient = static_cast<T*>(p.grad_value) + (image * p.pixels + from) * stride + head * p.channels + part * channels;

    // A private copy, unless few points fall into a large area.
    const bool direct = sizeof(A) == sizeof(T) && 4 * p.queries * (last - first) < area;
    const int64_t pitch = direct ? stride : (channels + w - 1) / w * w;
    A* rows = reinterpret_cast<A*>(gradient);
    if (direct) {
      for (int64_t pixel = 0; pixel < area; ++pixel)
        std::memset(static_cast<void*>(rows + pixel * pitch), 0, channels * sizeof(A));
    } else {
      own.assign(area * pitch / w, F{});
      rows = reinterpret_cast<A*>(own.data());
    }
    for (int64_t turn = 0; turn < p.queries; ++turn) {
      const int64_t query = p.query(image, turn), item = query * p.heads + head;
      call_item<T>(p, image, turn + 6, head, bench.count);
      if (p.reference) bench.refer(p, query);
      if (dots) dots_item<T>(p, bench, query, head, column.rows, column.stride);
      else bench.place(p, item);
      const T* grad = static_cast<const T*>(p.grad_output) + item * p.channels + part * channels;
      add_gradients(bench, first, last, grad, channels, rows, from, pitch);
    }
    if (!direct)
      for (int64_t pixel = 0; pixel < area; ++pixel)
        for (int64_t c = 0; c < channels; c += w)
          narrow_some(load<F>(rows + pixel * pitch + c), gradient + pixel * stride + c, channels - c);
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
