// Products of a few lanes with weights that are read once: float32, bfloat16, or int8 with a scale a row.
//
// Each sum is added up in the same order whatever the number of lanes, of rows and of threads. So a lane's result does not
// depend on the other lanes, to the last bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "product.h"

namespace sharnn {

inline float widen_one(const float* from) { return *from; }
inline float widen_one(const int8_t* from) { return static_cast<float>(*from); }
inline float widen_one(const uint16_t* from) {  // bfloat16: the upper half of a float32
  const uint32_t word = static_cast<uint32_t>(*from) << 16;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

// kVector weights as float32. (Compilers turn a vector conversion of bytes into scalar code, so these are intrinsics.)
inline Vector widen(const float* from) { return load(from); }

#if defined(__AVX512F__)
inline Vector widen(const uint16_t* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}
inline Vector widen(const int8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
#elif defined(__AVX2__)
inline Vector widen(const uint16_t* from) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return (Vector)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16);
}
inline Vector widen(const int8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return (Vector)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
#else
template <class W>
inline Vector widen(const W* from) {
  Vector vector;
  for (int i = 0; i < kVector; ++i) vector[i] = widen_one(from + i);
  return vector;
}
#endif

// The sum of a vector's elements: the upper half is added to the lower, until one is left.
inline float total(Vector vector) {
  float parts[kVector];
  store(parts, vector);
  for (int width = kVector / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) parts[i] += parts[i + width];
  }
  return parts[0];
}

// `total` of 8 vectors.
#if defined(__AVX2__)
inline __m256 eight(Vector vector) {
#if defined(__AVX512F__)
  const __m512 all = (__m512)vector;
  return _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
#else
  return (__m256)vector;
#endif
}

inline void totals(const Vector* vectors, float* out) {
  __m256 pairs[4], quads[2];
  for (int i = 0; i < 4; ++i) {  // lower halves are of the sums 0 to 3, upper halves of 4 to 7
    const __m256 a = eight(vectors[i]), b = eight(vectors[i + 4]);
    pairs[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  for (int i = 0; i < 2; ++i) {
    const __m256 a = pairs[2 * i], b = pairs[2 * i + 1];
    quads[i] = _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x44), _mm256_shuffle_ps(a, b, 0xEE));
  }
  const __m256 even = _mm256_shuffle_ps(quads[0], quads[1], 0x88), odd = _mm256_shuffle_ps(quads[0], quads[1], 0xDD);
  _mm256_storeu_ps(out, _mm256_add_ps(even, odd));
}
#else
inline void totals(const Vector* vectors, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = total(vectors[i]);
}
#endif

constexpr int kTogether = 8;  // rows at a time: as many sums as hide the time that an addition takes

// Where a row is fetched to while the row that lies kTogether rows before it is computed. The processor's own prefetching
// ends at each row, for R rows are read at once: without ours, int8 rows are read from memory at a third of its speed.
enum class Ahead {
  kNot,   // another call has fetched it
  kNear,  // to the nearest cache: for rows that come from the last cache
  kFar    // to the second cache: for rows that come from memory, which takes longer than the nearest cache can hold them
};

template <Ahead ahead>
inline void fetch(const void* from) {
  if (ahead == Ahead::kNear) __builtin_prefetch(from, 0, 3);
  if (ahead == Ahead::kFar) __builtin_prefetch(from, 0, 2);
}

// out[l * out_stride + r] = x of lane l [K] · row r, for R rows that lie `row_stride` apart, and L lanes.
template <int R, int L, Ahead ahead, class W>
inline void dot_block(const float* x, int64_t x_stride, const W* rows, int64_t row_stride, int64_t K, float* out,
                      int64_t out_stride) {
  Vector sums[L * R];
  for (int i = 0; i < L * R; ++i) sums[i] = Vector{};
  int64_t k = 0;
  for (; k + kVector <= K; k += kVector) {
    Vector inputs[L];
#pragma GCC unroll 4
    for (int l = 0; l < L; ++l) inputs[l] = load(x + l * x_stride + k);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      if (k * sizeof(W) % 64 == 0) fetch<ahead>(rows + (r + kTogether) * row_stride + k);
      const Vector weights = widen(rows + r * row_stride + k);
#pragma GCC unroll 4
      for (int l = 0; l < L; ++l) sums[l * R + r] += weights * inputs[l];
    }
  }
  float results[L * R];
  if constexpr (L * R % 8 == 0) {
    for (int i = 0; i < L * R; i += 8) totals(sums + i, results + i);
  } else {
    for (int i = 0; i < L * R; ++i) results[i] = total(sums[i]);
  }
  for (int l = 0; l < L; ++l) {
    for (int r = 0; r < R; ++r) {
      float sum = results[l * R + r];
      for (int64_t i = k; i < K; ++i) sum = std::fma(widen_one(rows + r * row_stride + i), x[l * x_stride + i], sum);
      out[l * out_stride + r] = sum;
    }
  }
}

// dot_block for kTogether rows and any number of lanes, whose x [K] lie together.
template <Ahead ahead, class W>
inline void dot_rows(const float* x, int64_t lanes, const W* rows, int64_t row_stride, int64_t K, float* out,
                     int64_t out_stride) {
#if defined(__AVX512F__)
  constexpr int R = 4, L = 4;  // 16 sums; there are 32 registers
#else
  constexpr int R = 4, L = 2;  // 8 sums of 16 registers
#endif
  int64_t lane = 0;
  for (; lane + L <= lanes; lane += L) {
    for (int r = 0; r < kTogether; r += R) {
      const float* from = x + lane * K;
      const W* some = rows + r * row_stride;
      float* to = out + lane * out_stride + r;
      if (lane == 0) {
        dot_block<R, L, ahead>(from, K, some, row_stride, K, to, out_stride);
      } else {
        dot_block<R, L, Ahead::kNot>(from, K, some, row_stride, K, to, out_stride);
      }
    }
  }
  if (lane == 0) {
    dot_block<kTogether, 1, ahead>(x, K, rows, row_stride, K, out, out_stride);
    ++lane;
  }
  for (; lane < lanes; ++lane) {
    dot_block<kTogether, 1, Ahead::kNot>(x + lane * K, K, rows, row_stride, K, out + lane * out_stride, out_stride);
  }
}

template <Ahead ahead, class W>
inline void dot_matrix_from(const float* x, int64_t lanes, const W* rows, int64_t begin, int64_t end, int64_t K, float* out,
                            int64_t out_stride) {
  int64_t n = begin;
  for (; n + kTogether <= end; n += kTogether) dot_rows<ahead>(x, lanes, rows + n * K, K, K, out + n, out_stride);
  for (; n < end; ++n) {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      dot_block<1, 1, Ahead::kNot>(x + lane * K, K, rows + n * K, K, K, out + lane * out_stride + n, out_stride);
    }
  }
}

// Up to this width the weights of a few layers fit into the last cache: at 512, four layers have 50 MB in float32.
constexpr int64_t kCached = 256;

// out[lane * out_stride + n] = x of the lane [K] · row n, for rows [begin, end) of a matrix [N, K].
template <class W>
inline void dot_matrix(const float* x, int64_t lanes, const W* rows, int64_t begin, int64_t end, int64_t K, float* out,
                       int64_t out_stride) {
  if (K <= kCached) {
    dot_matrix_from<Ahead::kNear>(x, lanes, rows, begin, end, K, out, out_stride);
  } else {
    dot_matrix_from<Ahead::kFar>(x, lanes, rows, begin, end, K, out, out_stride);
  }
}

}  // namespace sharnn
