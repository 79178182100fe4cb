// One time step of a few lanes, as in generation: every weight is read once, so these run at the speed of memory.
#include "common.h"
#include "operators.h"

namespace sharnn {
namespace {

// Four products of x [n] with rows a, b, c, e: one alone would wait for its own additions.
struct Dots {
  float a = 0.0f, b = 0.0f, c = 0.0f, e = 0.0f;

  void add(const float* x, const float* ra, const float* rb, const float* rc, const float* re, int64_t n) {
    float sa = 0.0f, sb = 0.0f, sc = 0.0f, se = 0.0f;
#pragma omp simd reduction(+ : sa, sb, sc, se)
    for (int64_t i = 0; i < n; ++i) {
      sa += x[i] * ra[i];
      sb += x[i] * rb[i];
      sc += x[i] * rc[i];
      se += x[i] * re[i];
    }
    a += sa, b += sb, c += sc, e += se;
  }
};

// LayerNorm of a row x [n] (eps 1e-12).
void normalise(const float* x, const float* weight, const float* bias, int64_t n, float* out) {
  float mean = 0.0f, square = 0.0f;
  for (int64_t i = 0; i < n; ++i) mean += x[i];
  mean /= static_cast<float>(n);
  for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float inverse = 1.0f / std::sqrt(square / static_cast<float>(n) + 1e-12f);
  for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
}

at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto input = x.contiguous();
  auto out = at::empty_like(input);
  const int64_t n = input.size(-1);
  for (int64_t row = 0; row < input.numel() / n; ++row) {
    normalise(input.const_data_ptr<float>() + row * n, weight.const_data_ptr<float>(), bias.const_data_ptr<float>(), n,
              out.mutable_data_ptr<float>() + row * n);
  }
  return out;
}

}  // namespace

// LSTM step on LayerNorm(x). x, hidden, cell [B, D], weights [4D, D], biases [4D], gate order i f g o -> hidden and cell [B, D] after the step.
std::tuple<at::Tensor, at::Tensor> lstm_step(const at::Tensor& x, const at::Tensor& ln_weight,
                                             const at::Tensor& ln_bias, const at::Tensor& weight_ih,
                                             const at::Tensor& weight_hh, const at::Tensor& bias_ih,
                                             const at::Tensor& bias_hh, const at::Tensor& hidden,
                                             const at::Tensor& cell) {
  const int64_t B = x.size(0), D = x.size(1);
  const std::vector<int64_t> square{4 * D, D}, state{B, D};
  TORCH_CHECK(weight_ih.sizes() == square && weight_hh.sizes() == square && bias_ih.numel() == 4 * D &&
                  bias_hh.numel() == 4 * D && hidden.sizes() == state && cell.sizes() == state &&
                  ln_weight.numel() == D && ln_bias.numel() == D,
              "lstm_step: weights must be [4D, D], biases [4D], layer norm [D], hidden and cell [B, D]");
  const auto input = normalised(x, ln_weight, ln_bias), h0 = hidden.contiguous(), c0 = cell.contiguous();
  const auto ih = weight_ih.contiguous(), hh = weight_hh.contiguous();
  auto h = at::empty_like(h0), c = at::empty_like(c0);
  const float *bi = bias_ih.const_data_ptr<float>(), *bh = bias_hh.const_data_ptr<float>();
  at::parallel_for(0, D, 16, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const float *wi = ih.const_data_ptr<float>() + unit * D, *wh = hh.const_data_ptr<float>() + unit * D;
      for (int64_t lane = 0; lane < B; ++lane) {
        Dots gate{bi[unit] + bh[unit], bi[D + unit] + bh[D + unit], bi[2 * D + unit] + bh[2 * D + unit],
                  bi[3 * D + unit] + bh[3 * D + unit]};
        gate.add(input.const_data_ptr<float>() + lane * D, wi, wi + D * D, wi + 2 * D * D, wi + 3 * D * D, D);
        gate.add(h0.const_data_ptr<float>() + lane * D, wh, wh + D * D, wh + 2 * D * D, wh + 3 * D * D, D);
        const int64_t at = lane * D + unit;
        const float next = sigmoid(gate.b) * c0.const_data_ptr<float>()[at] + sigmoid(gate.a) * std::tanh(gate.c);
        c.mutable_data_ptr<float>()[at] = next;
        h.mutable_data_ptr<float>()[at] = sigmoid(gate.e) * std::tanh(next);
      }
    }
  });
  return {h, c};
}

// LN_residual(h) + Boom(LN_input(h)) of h [B, D], W [H, D]. Columns of the Boom layer past a multiple of D are left out.
at::Tensor boom_step(const at::Tensor& h, const at::Tensor& ln_weight, const at::Tensor& ln_bias,
                     const at::Tensor& residual_weight, const at::Tensor& residual_bias, const at::Tensor& weight,
                     const at::Tensor& bias) {
  const int64_t B = h.size(0), D = h.size(1), chunks = weight.size(0) / D;
  TORCH_CHECK(weight.dim() == 2 && weight.size(1) == D && chunks > 0 && bias.numel() == weight.size(0) &&
                  ln_weight.numel() == D && ln_bias.numel() == D && residual_weight.numel() == D &&
                  residual_bias.numel() == D,
              "boom_step: weight must be [H, D] with H >= D, bias [H], layer norms [D]");
  const auto input = normalised(h, ln_weight, ln_bias), w = weight.contiguous();
  auto out = normalised(h, residual_weight, residual_bias);
  const float* b = bias.const_data_ptr<float>();
  const auto gelu = [](float a) { return a * sigmoid(1.702f * a); };
  at::parallel_for(0, D, 16, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      for (int64_t lane = 0; lane < B; ++lane) {
        const float* x = input.const_data_ptr<float>() + lane * D;
        float sum = 0.0f;
        for (int64_t chunk = 0; chunk < chunks; chunk += 4) {
          const int64_t last = chunks - 1 - chunk, row = chunk * D + unit, one = std::min<int64_t>(1, last) * D,
                        two = std::min<int64_t>(2, last) * D, three = std::min<int64_t>(3, last) * D;
          Dots a{b[row], b[row + one], b[row + two], b[row + three]};
          const float* from = w.const_data_ptr<float>() + row * D;
          a.add(x, from, from + one * D, from + two * D, from + three * D, D);
          sum += gelu(a.a) + (last >= 1 ? gelu(a.b) : 0.0f) + (last >= 2 ? gelu(a.c) : 0.0f) +
                 (last >= 3 ? gelu(a.e) : 0.0f);
        }
        out.mutable_data_ptr<float>()[lane * D + unit] += sum;
      }
    }
  });
  return out;
}

}  // namespace sharnn
