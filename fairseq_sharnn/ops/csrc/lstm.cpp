// An LSTM over a chunk for a few lanes a thread: no thread ever waits for another between two time steps.
//
// The input's product with W_ih is one large product beforehand (torch's); what is left, h W_hhᵀ a step, is too small
// for a library call (product.h).
#include "common.h"
#include "operators.h"
#include "product.h"

namespace sharnn {
namespace {

// weight [K, N] with any strides, packed for products from the right.
std::vector<float> pack_weight(const at::Tensor& weight) {
  const int64_t K = weight.size(0), N = weight.size(1), down = weight.stride(0), across = weight.stride(1);
  const float* from = weight.const_data_ptr<float>();
  std::vector<float> packed(panels(N) * kPanel * K);
  at::parallel_for(0, panels(N), 1, [&](int64_t begin, int64_t end) {
    pack(from, down, across, K, begin, end, N, packed.data());
  });
  return packed;
}

// Absolute error 1e-7, which is a unit in the last place of the gates it is multiplied with.
inline float tanh_approx(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

int64_t lanes_a_thread(int64_t lanes) {
  const int64_t threads = at::get_num_threads();
  return (lanes + threads - 1) / threads;
}

}  // namespace

// Run the recurrence over gates [T, B, 4D], which hold x W_ihᵀ + b_ih + b_hh and are left activated, in the order i f g o.
// Returns the hidden states after each step [T, B, D], and the cell after the last [B, D]. D is a multiple of 16.
std::tuple<at::Tensor, at::Tensor> lstm(at::Tensor gates, const at::Tensor& weight, const at::Tensor& hidden,
                                        const at::Tensor& cell) {
  const int64_t T = gates.size(0), B = gates.size(1), D = gates.size(2) / 4;
  TORCH_CHECK(gates.is_contiguous() && D % kPanel == 0, "lstm: gates [T, B, 4D] must be contiguous and D a multiple of 16");
  TORCH_CHECK(has_shape(weight, {4 * D, D}) && has_shape(hidden, {B, D}) &&
                  has_shape(cell, {B, D}),
              "lstm: weight must be [4D, D], hidden and cell [B, D]");
  auto out = at::empty({T, B, D}, gates.options());
  const auto h0 = hidden.contiguous();
  const auto last = cell.clone(at::MemoryFormat::Contiguous);
  const auto packed = pack_weight(weight.t());  // [D, 4D]
  at::parallel_for(0, B, lanes_a_thread(B), [&](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < T; ++t) {
      const float* h = (t > 0 ? out.const_data_ptr<float>() + (t - 1) * B * D : h0.const_data_ptr<float>()) + begin * D;
      float* g = gates.mutable_data_ptr<float>() + (t * B + begin) * 4 * D;
      multiply<true>(h, D, packed.data(), end - begin, 4 * D, D, g, 4 * D);
      float* h_new = out.mutable_data_ptr<float>() + (t * B + begin) * D;
      float* c = last.mutable_data_ptr<float>() + begin * D;
      for (int64_t lane = 0; lane < end - begin; ++lane, g += 4 * D, h_new += D, c += D) {
#pragma omp simd
        for (int64_t i = 0; i < D; ++i) {
          const float in = sigmoid(g[i]), forget = sigmoid(g[D + i]);
          const float candidate = tanh_approx(g[2 * D + i]), reveal = sigmoid(g[3 * D + i]);
          g[i] = in;
          g[D + i] = forget;
          g[2 * D + i] = candidate;
          g[3 * D + i] = reveal;
          c[i] = forget * c[i] + in * candidate;
          h_new[i] = reveal * tanh_approx(c[i]);
        }
      }
    }
  });
  return {out, last};
}

// Put in the place of the activated gates [T, B, 4D] the gradient of what came into them, from the gradient [T, B, D] of the
// hidden states. cell [B, D]: before the first step; the others follow from the gates.
void lstm_backward(const at::Tensor& grad, at::Tensor gates, const at::Tensor& weight, const at::Tensor& cell) {
  const int64_t T = gates.size(0), B = gates.size(1), D = gates.size(2) / 4;
  TORCH_CHECK(gates.is_contiguous() && D % kPanel == 0, "lstm_backward: not what lstm made of the gates");
  TORCH_CHECK(has_shape(grad, {T, B, D}) && has_shape(weight, {4 * D, D}) && has_shape(cell, {B, D}),
              "lstm_backward: weight must be [4D, D], cell [B, D], grad [T, B, D]");
  auto cells = at::empty({T + 1, B, D}, gates.options());
  const auto upstream = grad.contiguous(), c0 = cell.contiguous();
  const auto packed = pack_weight(weight);  // [4D, D]
  at::parallel_for(0, B, lanes_a_thread(B), [&](int64_t begin, int64_t end) {
    const int64_t lanes = end - begin;
    std::copy_n(c0.const_data_ptr<float>() + begin * D, lanes * D, cells.mutable_data_ptr<float>() + begin * D);
    for (int64_t t = 0; t < T; ++t) {
      const float* g = gates.const_data_ptr<float>() + (t * B + begin) * 4 * D;
      const float* c = cells.const_data_ptr<float>() + (t * B + begin) * D;
      float* next = cells.mutable_data_ptr<float>() + ((t + 1) * B + begin) * D;
      for (int64_t lane = 0; lane < lanes; ++lane, g += 4 * D, c += D, next += D) {
#pragma omp simd
        for (int64_t i = 0; i < D; ++i) next[i] = g[D + i] * c[i] + g[i] * g[2 * D + i];
      }
    }
    std::vector<float> h_grad(lanes * D, 0.0f), c_grad(lanes * D, 0.0f);
    for (int64_t t = T - 1; t >= 0; --t) {
      const float* above = upstream.const_data_ptr<float>() + (t * B + begin) * D;
      float* g = gates.mutable_data_ptr<float>() + (t * B + begin) * 4 * D;
      const float* c_old = cells.const_data_ptr<float>() + (t * B + begin) * D;
      const float* c = c_old + B * D;
      for (int64_t lane = 0; lane < lanes; ++lane) {
        const float *al = above + lane * D, *cl = c + lane * D, *ol = c_old + lane * D;
        float *hg = h_grad.data() + lane * D, *cg = c_grad.data() + lane * D, *gl = g + lane * 4 * D;
#pragma omp simd
        for (int64_t i = 0; i < D; ++i) {
          const float in = gl[i], forget = gl[D + i], candidate = gl[2 * D + i], reveal = gl[3 * D + i];
          const float squashed = tanh_approx(cl[i]), dh = al[i] + hg[i];
          const float dc = cg[i] + dh * reveal * (1.0f - squashed * squashed);
          gl[i] = dc * candidate * in * (1.0f - in);
          gl[D + i] = dc * ol[i] * forget * (1.0f - forget);
          gl[2 * D + i] = dc * in * (1.0f - candidate * candidate);
          gl[3 * D + i] = dh * squashed * reveal * (1.0f - reveal);
          cg[i] = dc * forget;
          hg[i] = 0.0f;
        }
      }
      if (t > 0) multiply<true>(g, 4 * D, packed.data(), lanes, D, 4 * D, h_grad.data(), D);
    }
  });
}

}  // namespace sharnn
