// Attention's products with the rows of a tile, and the packing that each needs.
//
// With AVX-512 the products are those of oneDNN's micro-kernels, which torch ships (brgemm). They are faster than product.h
// and read rows in place, where product.h packs them. For AVX2 product.h stays: no gain was shown there (docs/speed.md).
#pragma once

#include "phases.h"
#include "product.h"

#ifdef __AVX512F__
#include <ATen/native/CPUBlas.h>
#endif
#ifdef CPUBLAS_BRGEMM_F32F32F32  // this torch has them in float32
#include <immintrin.h>
#endif

namespace sharnn {

constexpr int64_t kTile = 256;  // rows of memory in a tile: a tile, its scores and the queries fit in a core's cache

#ifdef CPUBLAS_BRGEMM_F32F32F32

// oneDNN compiles a kernel for each size and keeps it, so there must be few sizes. The rows of a tile are filled up with
// zeros to a multiple of kStep. Queries are cut into blocks of kQueries, and what is left into powers of two.
constexpr int64_t kStep = 32, kQueries = 64;

inline int64_t columns(int64_t n) { return (n + kStep - 1) / kStep * kStep; }

template <bool accumulate>
inline void multiply_in_blocks(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t M, int64_t N,
                               int64_t K, float* c, int64_t c_stride) {
  for (int64_t row = 0, size = kQueries; row < M; row += size) {
    while (size > M - row) size /= 2;
    at::native::cpublas::brgemm(size, N, K, a_stride, b_stride, c_stride, accumulate, a + row * a_stride, b,
                                c + row * c_stride, false);
  }
}

// A block [16, 16] of `from`, turned.
inline void turn_block(const float* from, int64_t stride, float* to, int64_t to_stride) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(from + i * stride);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m512d first = _mm512_castps_pd(b[i + j]), second = _mm512_castps_pd(b[i + 2 + j]);
      a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(first, second));
      a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(first, second));
    }
  }
  for (int j = 0; j < 4; ++j) {  // a[4 i + j]: of rows 4 i to 4 i + 3, the columns j, 4 + j, 8 + j and 12 + j
    const __m512 even = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x88), odd = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xdd);
    const __m512 last_even = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x88);
    const __m512 last_odd = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xdd);
    _mm512_storeu_ps(to + j * to_stride, _mm512_shuffle_f32x4(even, last_even, 0x88));
    _mm512_storeu_ps(to + (4 + j) * to_stride, _mm512_shuffle_f32x4(odd, last_odd, 0x88));
    _mm512_storeu_ps(to + (8 + j) * to_stride, _mm512_shuffle_f32x4(even, last_even, 0xdd));
    _mm512_storeu_ps(to + (12 + j) * to_stride, _mm512_shuffle_f32x4(odd, last_odd, 0xdd));
  }
}

// rows [n, d] -> [d, columns(n)] with a stride of kTile, zeros behind the last.
inline void turn(const float* rows, int64_t stride, int64_t n, int64_t d, float* to) {
  const int64_t whole_rows = n / 16 * 16, whole_columns = d / 16 * 16;
  for (int64_t r = 0; r < whole_rows; r += 16) {
    for (int64_t c = 0; c < whole_columns; c += 16) turn_block(rows + r * stride + c, stride, to + c * kTile + r, kTile);
  }
  for (int64_t c = 0; c < d; ++c) {
    for (int64_t r = c < whole_columns ? whole_rows : 0; r < n; ++r) to[c * kTile + r] = rows[r * stride + c];
    std::fill(to + c * kTile + n, to + c * kTile + columns(n), 0.0f);
  }
}

// scores [M, columns(n)] = a [M, d] rowsᵀ, whose stride is kTile.
template <class Clock>
void multiply_rows_turned(const float* a, int64_t a_stride, int64_t M, const float* rows, int64_t stride, int64_t n,
                          int64_t d, float* packed, float* scores, Clock& clock) {
  turn(rows, stride, n, d, packed);
  clock.mark(kPacking);
  multiply_in_blocks<false>(a, a_stride, packed, kTile, M, columns(n), d, scores, kTile);
  clock.mark(kProducts);
}

// c [M, d] += weights [M, columns(n)] rows; the weights behind the last row are 0.
template <class Clock>
void add_weighted_rows(const float* weights, int64_t M, const float* rows, int64_t stride, int64_t n, int64_t d,
                       float* packed, float* c, int64_t c_stride, Clock& clock) {
  if (columns(n) > n) {  // what lies behind the last row is not the tile's
    for (int64_t r = 0; r < n; ++r) std::copy_n(rows + r * stride, d, packed + r * d);
    std::fill(packed + n * d, packed + columns(n) * d, 0.0f);
    rows = packed;
    stride = d;
  }
  clock.mark(kPacking);
  multiply_in_blocks<true>(weights, kTile, rows, stride, M, d, columns(n), c, c_stride);
  clock.mark(kProducts);
}

#else

inline int64_t columns(int64_t n) { return n; }

template <class Clock>
void multiply_rows_turned(const float* a, int64_t a_stride, int64_t M, const float* rows, int64_t stride, int64_t n,
                          int64_t d, float* packed, float* scores, Clock& clock) {
  pack(rows, 1, stride, d, 0, panels(n), n, packed);
  clock.mark(kPacking);
  multiply<false>(a, a_stride, packed, M, n, d, scores, kTile);
  clock.mark(kProducts);
}

template <class Clock>
void add_weighted_rows(const float* weights, int64_t M, const float* rows, int64_t stride, int64_t n, int64_t d,
                       float* packed, float* c, int64_t c_stride, Clock& clock) {
  pack(rows, stride, 1, n, 0, panels(d), d, packed);
  clock.mark(kPacking);
  multiply<true>(weights, kTile, packed, M, d, n, c, c_stride);
  clock.mark(kProducts);
}

#endif

}  // namespace sharnn
