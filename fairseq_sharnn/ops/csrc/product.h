// Matrix products of the size of a cache, on one thread: what a library call is too slow for.
//
// c [M, N] = a [M, K] b, or c += a b. b is packed into panels of 16 columns, [⌈N / 16⌉, K, 16], zeros behind the last
// column; a block of a few rows x 16 columns of c stays in registers over all of K. c has room for ⌈N / 16⌉ · 16 columns.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sharnn {

constexpr int64_t kPanel = 16;

inline int64_t panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

// Pack b [K, N], whose element (k, n) is b[k · down + n · across].
inline void pack(const float* b, int64_t down, int64_t across, int64_t K, int64_t first_panel, int64_t last_panel,
                 int64_t N, float* packed) {
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    float* to = packed + panel * K * kPanel;
    const float* from = b + panel * kPanel * across;
    const int64_t columns = std::min(kPanel, N - panel * kPanel);
    if (columns < kPanel) std::fill(to, to + K * kPanel, 0.0f);
    if (across == 1) {
      for (int64_t k = 0; k < K; ++k) std::copy(from + k * down, from + k * down + columns, to + k * kPanel);
    } else {
      for (int64_t k = 0; k < K; k += 8) {  // a few cache lines of each column at a time
        const int64_t stop = std::min(K, k + 8);
        for (int64_t j = 0; j < columns; ++j) {
          for (int64_t i = k; i < stop; ++i) to[i * kPanel + j] = from[j * across + i * down];
        }
      }
    }
  }
}

// A block of c is kRows rows x 2 vectors: of two panels side by side with AVX-512, of one with AVX2.
#ifdef __AVX512F__
constexpr int kVector = 16, kRows = 12;
#else
constexpr int kVector = 8, kRows = 6;
#endif

typedef float Vector __attribute__((vector_size(kVector * sizeof(float))));

inline Vector load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

inline void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof(vector)); }

// c [L, V vectors] of packed b, whose next vector is `b_next` floats on: in the same panel, or in the next.
template <int L, int V, bool accumulate>
inline void multiply_block(const float* a, int64_t a_stride, const float* b, int64_t b_next, int64_t K, float* c,
                           int64_t c_stride) {
  Vector left[L], right[L];
  for (int l = 0; l < L; ++l) {
    left[l] = accumulate ? load(c + l * c_stride) : Vector{};
    if (V == 2) right[l] = accumulate ? load(c + l * c_stride + kVector) : Vector{};
  }
  for (int64_t k = 0; k < K; ++k) {
    const Vector b_left = load(b + k * kPanel);
    const Vector b_right = V == 2 ? load(b + k * kPanel + b_next) : Vector{};
#pragma GCC unroll 12
    for (int l = 0; l < L; ++l) {
      const float value = a[l * a_stride + k];
      left[l] += b_left * value;
      if (V == 2) right[l] += b_right * value;
    }
  }
  for (int l = 0; l < L; ++l) {
    store(c + l * c_stride, left[l]);
    if (V == 2) store(c + l * c_stride + kVector, right[l]);
  }
}

template <int V, bool accumulate, int L = kRows>
inline void multiply_rows(int64_t rows, const float* a, int64_t a_stride, const float* b, int64_t b_next, int64_t K,
                          float* c, int64_t c_stride) {
  if (rows == L) {
    multiply_block<L, V, accumulate>(a, a_stride, b, b_next, K, c, c_stride);
  } else if constexpr (L > 1) {
    multiply_rows<V, accumulate, L - 1>(rows, a, a_stride, b, b_next, K, c, c_stride);
  }
}

template <int V, bool accumulate>
inline void multiply_columns(const float* a, int64_t a_stride, const float* b, int64_t b_next, int64_t M, int64_t K,
                             float* c, int64_t c_stride) {
  const int64_t blocks = (M + kRows - 1) / kRows;  // rows are dealt out evenly: of at most 6, 8 rows are 4 + 4, not 6 + 2
  for (int64_t block = 0, row = 0; block < blocks; ++block) {
    const int64_t rows = (M - row + blocks - block - 1) / (blocks - block);
    multiply_rows<V, accumulate>(rows, a + row * a_stride, a_stride, b, b_next, K, c + row * c_stride, c_stride);
    row += rows;
  }
}

template <bool accumulate>
inline void multiply(const float* a, int64_t a_stride, const float* packed, int64_t M, int64_t N, int64_t K, float* c,
                     int64_t c_stride) {
  const int64_t panel = K * kPanel, next = kVector == kPanel ? panel : kVector;
  int64_t column = 0;
  for (; column + 2 * kVector <= panels(N) * kPanel; column += 2 * kVector) {
    multiply_columns<2, accumulate>(a, a_stride, packed + column / kPanel * panel, next, M, K, c + column, c_stride);
  }
  if (column < panels(N) * kPanel) {  // a last panel, alone
    multiply_columns<1, accumulate>(a, a_stride, packed + column / kPanel * panel, next, M, K, c + column, c_stride);
  }
}

}  // namespace sharnn
