// Matrix products of the size of a cache, on one thread: what a library call is too slow for.
//
// c [M, N] = a [M, K] b, or c += a b. b is packed into panels of 16 columns, [⌈N / 16⌉, K, 16], zeros behind the last
// column; a block of up to 6 rows x 16 columns of c stays in registers over all of K. c has room for ⌈N / 16⌉ · 16 columns.
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

typedef float Vector __attribute__((vector_size(32)));

inline Vector load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

inline void store(float* to, Vector vector) { std::memcpy(to, &vector, sizeof(vector)); }

template <int L, bool accumulate>
inline void multiply_block(const float* a, int64_t a_stride, const float* b, int64_t K, float* c, int64_t c_stride) {
  Vector left[L], right[L];
  for (int l = 0; l < L; ++l) {
    left[l] = accumulate ? load(c + l * c_stride) : Vector{};
    right[l] = accumulate ? load(c + l * c_stride + 8) : Vector{};
  }
  for (int64_t k = 0; k < K; ++k) {
    const Vector b_left = load(b + k * kPanel);
    const Vector b_right = load(b + k * kPanel + 8);
#pragma GCC unroll 6
    for (int l = 0; l < L; ++l) {
      const float value = a[l * a_stride + k];
      left[l] += b_left * value;
      right[l] += b_right * value;
    }
  }
  for (int l = 0; l < L; ++l) {
    store(c + l * c_stride, left[l]);
    store(c + l * c_stride + 8, right[l]);
  }
}

template <bool accumulate>
inline void multiply(const float* a, int64_t a_stride, const float* packed, int64_t M, int64_t N, int64_t K, float* c,
                     int64_t c_stride) {
  const int64_t blocks = (M + 5) / 6;  // rows are dealt out evenly: 8 rows are 4 + 4, not 6 + 2
  for (int64_t panel = 0; panel < panels(N); ++panel) {
    const float* b = packed + panel * K * kPanel;
    for (int64_t block = 0, row = 0; block < blocks; ++block) {
      const int64_t rows = (M - row + blocks - block - 1) / (blocks - block);
      const float* from = a + row * a_stride;
      float* to = c + row * c_stride + panel * kPanel;
      switch (rows) {
        case 6: multiply_block<6, accumulate>(from, a_stride, b, K, to, c_stride); break;
        case 5: multiply_block<5, accumulate>(from, a_stride, b, K, to, c_stride); break;
        case 4: multiply_block<4, accumulate>(from, a_stride, b, K, to, c_stride); break;
        case 3: multiply_block<3, accumulate>(from, a_stride, b, K, to, c_stride); break;
        case 2: multiply_block<2, accumulate>(from, a_stride, b, K, to, c_stride); break;
        default: multiply_block<1, accumulate>(from, a_stride, b, K, to, c_stride);
      }
      row += rows;
    }
  }
}

}  // namespace sharnn
