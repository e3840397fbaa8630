// Vectors of the width that this translation unit is compiled for, by the compilers' vector extension.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define MSDA_BYTES 64
#elif defined(__AVX2__)
#define MSDA_BYTES 32
#else
#define MSDA_BYTES 16
#endif

// Everything here depends on the instruction set: an anonymous namespace, so that no linker may take one
// set's copy for another's.
namespace {

template <class A>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float F __attribute__((vector_size(MSDA_BYTES)));
  typedef int32_t I __attribute__((vector_size(MSDA_BYTES)));
  using Int = int32_t;
};

template <>
struct Lanes<double> {
  typedef double F __attribute__((vector_size(MSDA_BYTES)));
  typedef int64_t I __attribute__((vector_size(MSDA_BYTES)));
  using Int = int64_t;
};

template <class A>
constexpr int kWidth = MSDA_BYTES / int(sizeof(A));

template <class V, class T>
inline V load(const T* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class V, class T>
inline void store(T* to, V v) {
  std::memcpy(to, &v, sizeof v);
}

// True (-1) in the lanes below `count`.
template <class A>
inline typename Lanes<A>::I first_lanes(int64_t count) {
  typename Lanes<A>::I lane;
  for (int i = 0; i < kWidth<A>; ++i) lane[i] = i;
  return lane < typename Lanes<A>::Int(count < kWidth<A> ? count : kWidth<A>);
}

// Part of a vector from and to memory: `count` numbers, none at all below 1, and 0 in the lanes beyond. No byte
// beyond them is touched.
#if defined(__AVX512F__)
inline unsigned mask_of(int64_t count, int width) { return count >= width ? (1u << width) - 1 : count > 0 ? (1u << count) - 1 : 0; }
inline Lanes<float>::F load_some(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(mask_of(count, 16), from); }
inline Lanes<double>::F load_some(const double* from, int64_t count) { return _mm512_maskz_loadu_pd(mask_of(count, 8), from); }
inline void store_some(float* to, Lanes<float>::F v, int64_t count) { _mm512_mask_storeu_ps(to, mask_of(count, 16), v); }
inline void store_some(double* to, Lanes<double>::F v, int64_t count) { _mm512_mask_storeu_pd(to, mask_of(count, 8), v); }
#elif defined(__AVX2__)
inline Lanes<float>::F load_some(const float* from, int64_t count) { return _mm256_maskload_ps(from, (__m256i)first_lanes<float>(count)); }
inline Lanes<double>::F load_some(const double* from, int64_t count) { return _mm256_maskload_pd(from, (__m256i)first_lanes<double>(count)); }
inline void store_some(float* to, Lanes<float>::F v, int64_t count) { _mm256_maskstore_ps(to, (__m256i)first_lanes<float>(count), v); }
inline void store_some(double* to, Lanes<double>::F v, int64_t count) { _mm256_maskstore_pd(to, (__m256i)first_lanes<double>(count), v); }
#else
template <class A>
inline typename Lanes<A>::F load_some(const A* from, int64_t count) {
  if (count >= kWidth<A>) return load<typename Lanes<A>::F>(from);
  typename Lanes<A>::F v = {};
  for (int i = 0; i < kWidth<A>; ++i)
    if (i < count) v[i] = from[i];
  return v;
}
template <class A>
inline void store_some(A* to, typename Lanes<A>::F v, int64_t count) {
  if (count >= kWidth<A>) return store(to, v);
  for (int i = 0; i < kWidth<A>; ++i)
    if (i < count) to[i] = v[i];
}
#endif

template <class A>
inline typename Lanes<A>::F splat(A a) {
  return typename Lanes<A>::F{} + a;
}

template <class A>
inline typename Lanes<A>::F floor_of(typename Lanes<A>::F x, typename Lanes<A>::I& whole) {
  using V = Lanes<A>;
  whole = __builtin_convertvector(x, typename V::I);                          // toward zero
  whole += __builtin_convertvector(whole, typename V::F) > x;                 // true is -1
  return __builtin_convertvector(whole, typename V::F);
}

// Shuffles with indices known when compiled: `Pick::at(i)` of the lanes of a, then of b.
template <class Pick, class F, class I, int... i>
inline F shuffle(F a, F b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Pick::at(i)...);
#else
  return __builtin_shuffle(a, b, I{Pick::at(i)...});
#endif
}

template <class Pick, class A, int... i>
inline typename Lanes<A>::F shuffle_sequence(typename Lanes<A>::F a, typename Lanes<A>::F b,
                                             std::integer_sequence<int, i...>) {
  return shuffle<Pick, typename Lanes<A>::F, typename Lanes<A>::I, i...>(a, b);
}

template <class Pick, class A>
inline typename Lanes<A>::F pick(typename Lanes<A>::F a, typename Lanes<A>::F b) {
  return shuffle_sequence<Pick, A>(a, b, std::make_integer_sequence<int, kWidth<A>>{});
}

// Of every block of `block` lanes a's first half and b's second; or a's second half, then b's first.
template <int width, int block, bool crosswise>
struct Halves {
  static constexpr int at(int lane) {
    const int half = crosswise ? block / 2 : 0;
    return lane % block < block / 2 ? lane + half : width + lane - half;
  }
};

template <int width, int second>
struct Zip {  // a0 b0 a1 b1 ...: lanes of the result's first or second vector
  static constexpr int at(int lane) { return (lane % 2) * width + second * (width / 2) + lane / 2; }
};

template <int width, int odd>
struct Unzip {  // every other lane of a, then of b
  static constexpr int at(int lane) { return 2 * lane + odd; }
};

// v[0..width) -> a vector whose lane j is the sum of v[j]'s lanes. Overwrites v.
template <class A, int n = kWidth<A>>
inline typename Lanes<A>::F sums(typename Lanes<A>::F* v) {
  if constexpr (n == 1) {
    return v[0];
  } else {
    constexpr int w = kWidth<A>;
    for (int i = 0; i < n / 2; ++i)
      v[i] = pick<Halves<w, n, false>, A>(v[i], v[i + n / 2]) + pick<Halves<w, n, true>, A>(v[i], v[i + n / 2]);
    return sums<A, n / 2>(v);
  }
}

// `combine` over all lanes, in every lane.
template <int width, int half>
struct Rotate {
  static constexpr int at(int lane) { return (lane + half) % width; }
};

template <class A, int half = kWidth<A> / 2, class Combine>
inline typename Lanes<A>::F across(typename Lanes<A>::F v, const Combine& combine) {
  v = combine(v, pick<Rotate<kWidth<A>, half>, A>(v, v));
  if constexpr (half > 1) return across<A, half / 2>(v, combine);
  return v;
}

// exp for arguments up to 0, to about 2 units in the last place (range reduction and Cephes' polynomial).
inline Lanes<float>::F exp_of(Lanes<float>::F x) {
  using V = Lanes<float>;
  const V::F magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const V::F n = (x * 1.44269504088896341f + magic) - magic;
  const V::F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V::F p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const V::I power = (__builtin_convertvector(n, V::I) + 127) << 23;
  V::F two;
  std::memcpy(&two, &power, sizeof two);
  return x < -87.f ? V::F{} : p * two;
}

inline Lanes<double>::F exp_of(Lanes<double>::F x) {
  for (int i = 0; i < kWidth<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

// Storage types. Half types widen to float exactly and round to nearest, ties to even.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class T>
struct Accumulates {
  using Type = float;
};
template <>
struct Accumulates<double> {
  using Type = double;
};

using U16 = uint16_t __attribute__((vector_size(MSDA_BYTES / 2)));

inline Lanes<float>::I as_bits(Lanes<float>::F f) {
  Lanes<float>::I bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

inline Lanes<float>::F as_float(Lanes<float>::I bits) {
  Lanes<float>::F f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

inline Lanes<float>::I widen_bits(const void* from) {
  return __builtin_convertvector(load<U16>(static_cast<const uint16_t*>(from)), Lanes<float>::I);
}

inline Lanes<float>::F widen(const float* from) { return load<Lanes<float>::F>(from); }
inline Lanes<double>::F widen(const double* from) { return load<Lanes<double>::F>(from); }
inline Lanes<float>::F widen(const BFloat16* from) { return as_float(widen_bits(from) << 16); }
inline Lanes<float>::F widen(const Half* from) {
  const Lanes<float>::I h = widen_bits(from);
  const Lanes<float>::F finite = as_float((h & 0x7fff) << 13) * 0x1p112f;  // subnormals come out right too
  const Lanes<float>::I bits = (h & 0x7c00) == 0x7c00 ? (((h & 0x3ff) << 13) | 0x7f800000) : as_bits(finite);
  return as_float(bits | (h & 0x8000) << 16);
}

inline void narrow(Lanes<float>::F from, float* to) { store(to, from); }
inline void narrow(Lanes<double>::F from, double* to) { store(to, from); }
inline void narrow(Lanes<float>::F from, BFloat16* to) {
  const Lanes<float>::I bits = as_bits(from), rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  store(to, __builtin_convertvector(from == from ? rounded : Lanes<float>::I{} + 0x7fc0, U16));
}
inline void narrow(Lanes<float>::F from, Half* to) {
  using I = Lanes<float>::I;
  const I bits = as_bits(from) & 0x7fffffff, sign = (as_bits(from) >> 16) & 0x8000;
  // Below 2^-14: a float whose last place is 2^-24 does the rounding.
  const I tiny = as_bits(as_float(bits) + 0.5f) - 0x3f000000;
  I normal = (bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13;
  normal = normal > 0x7c00 ? I{} + 0x7c00 : normal;  // too large: infinite
  const I nan = I{} + 0x7e00;
  store(to, __builtin_convertvector((bits > 0x7f800000 ? nan : bits < 0x38800000 ? tiny : normal) | sign, U16));
}

// The first `count` of a vector, at least one: the others are 0, or left as they are in memory.
template <class T>
inline auto widen_some(const T* from, int64_t count) {
  if constexpr (sizeof(T) >= 4) {
    return load_some(from, count);
  } else {
    T lanes[kWidth<float>] = {};
    std::memcpy(lanes, from, std::min<int64_t>(count, kWidth<float>) * sizeof(T));
    return widen(lanes);
  }
}

template <class T, class F>
inline void narrow_some(F from, T* to, int64_t count) {
  constexpr int w = MSDA_BYTES / int(sizeof(from[0]));
  if (count >= w) return narrow(from, to);
  T lanes[w];
  narrow(from, lanes);
  std::memcpy(to, lanes, count * sizeof(T));
}

}  // namespace
