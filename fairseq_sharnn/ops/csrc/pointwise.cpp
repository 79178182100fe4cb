// Elementwise work that torch would spread over many passes: dropout, and the Boom layer's activation and fold.
#include "common.h"
#include "operators.h"

namespace sharnn {

// x ⊙ mask / P(kept) for x [N, n]. Its own gradient is the same function of the upstream gradient.
at::Tensor dropout(const at::Tensor& x, double rate, int64_t seed) {
  const auto input = x.contiguous();
  auto out = at::empty_like(input);
  const int64_t columns = input.dim() > 0 ? input.size(-1) : 1;
  if (columns == 0) return out;
  const Dropout drop(rate, seed);
  const float* from = input.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, input.numel() / columns, std::max<int64_t>(1, 16384 / columns), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* y = to + row * columns;
      const float* values = from + row * columns;
      drop.factors(y, row, 0, columns);
#pragma omp simd
      for (int64_t i = 0; i < columns; ++i) y[i] *= values[i];
    }
  });
  return out;
}

constexpr float kSlope = 1.702f;

// drop(gelu(a)) for a [N, H], summed over consecutive chunks of `width` columns: [N, width].
at::Tensor activate_and_fold(const at::Tensor& a, int64_t width, double rate, int64_t seed) {
  const auto input = a.contiguous();
  const int64_t columns = input.size(-1), rows = input.numel() / std::max<int64_t>(1, columns);
  TORCH_CHECK(width > 0 && columns % width == 0, "activate_and_fold: a must have a multiple of ", width, " columns");
  auto shape = input.sizes().vec();
  shape.back() = width;
  auto out = at::empty(shape, input.options());
  const Dropout drop(rate, seed);
  const float* from = input.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> kept(columns, 1.0f);
    for (int64_t row = begin; row < end; ++row) {
      if (drop.active()) drop.factors(kept.data(), row, 0, columns);
      float* sum = to + row * width;
      std::fill(sum, sum + width, 0.0f);
      for (int64_t chunk = 0; chunk < columns; chunk += width) {
        const float* x = from + row * columns + chunk;
        const float* k = kept.data() + chunk;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) sum[i] += x[i] * sigmoid(kSlope * x[i]) * k[i];
      }
    }
  });
  return out;
}

// Put in the place of a the gradient of activate_and_fold with respect to it: the upstream gradient [N, width] is broadcast
// over the chunks.
void activate_and_fold_backward(const at::Tensor& grad, at::Tensor a, int64_t width, double rate, int64_t seed) {
  const auto upstream = grad.contiguous();
  const int64_t columns = a.size(-1), rows = a.numel() / std::max<int64_t>(1, columns);
  TORCH_CHECK(a.is_contiguous() && width > 0 && columns % width == 0 && upstream.numel() == rows * width,
              "activate_and_fold_backward: a must be contiguous, and grad have ", width, " columns for each of its rows");
  const Dropout drop(rate, seed);
  const float* above = upstream.const_data_ptr<float>();
  float* values = a.mutable_data_ptr<float>();
  at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
    std::vector<float> kept(columns, 1.0f);
    for (int64_t row = begin; row < end; ++row) {
      if (drop.active()) drop.factors(kept.data(), row, 0, columns);
      const float* g = above + row * width;
      for (int64_t chunk = 0; chunk < columns; chunk += width) {
        float* x = values + row * columns + chunk;
        const float* k = kept.data() + chunk;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const float gate = sigmoid(kSlope * x[i]);  // d gelu / da = σ(ka) (1 + k a (1 − σ(ka)))
          x[i] = g[i] * k[i] * gate * (1.0f + kSlope * x[i] * (1.0f - gate));
        }
      }
    }
  });
}

// The factors [rows, columns] that a kernel draws for a seed: tests replay them through plain formulas.
at::Tensor dropout_factors(int64_t rows, int64_t columns, double rate, int64_t seed) {
  auto out = at::ones({rows, columns}, at::kFloat);
  const Dropout drop(rate, seed);
  if (drop.active()) {
    for (int64_t row = 0; row < rows; ++row) drop.factors(out.mutable_data_ptr<float>() + row * columns, row, 0, columns);
  }
  return out;
}

}  // namespace sharnn
