// The operators that register.cpp gives to torch, and what they share. What each computes stands where it is defined.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace sharnn {

// pointwise.cpp
at::Tensor dropout(const at::Tensor& x, double rate, int64_t seed);
at::Tensor dropout_factors(int64_t rows, int64_t columns, double rate, int64_t seed);
at::Tensor activate_and_fold(const at::Tensor& a, int64_t width, double rate, int64_t seed);
void activate_and_fold_backward(const at::Tensor& grad, at::Tensor a, int64_t width, double rate, int64_t seed);

// attention.cpp
std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& query, at::TensorList segments, int64_t heads, double rate,
                                          int64_t seed);
std::tuple<at::Tensor, at::Tensor> attend_backward(const at::Tensor& grad, const at::Tensor& query,
                                                   at::TensorList segments, const at::Tensor& out,
                                                   const at::Tensor& lse, int64_t heads, double rate, int64_t seed);
at::Tensor attend_phases(const at::Tensor& query, at::TensorList segments, int64_t heads, double rate, int64_t seed);
at::Tensor attend_backward_phases(const at::Tensor& grad, const at::Tensor& query, at::TensorList segments,
                                  const at::Tensor& out, const at::Tensor& lse, int64_t heads, double rate,
                                  int64_t seed);

// Memories that a step attends to: blocks [b, capacity, D] of one group of b lanes after the other, where the rows in use
// start and stop in each block, and how many blocks each group has.
struct Memory {
  at::TensorList blocks;
  at::IntArrayRef spans, counts;
};

// attention_step.cpp
void attend_step(const float* q, const Memory& memory, int64_t B, int64_t D, int64_t heads, float* out);

// step.cpp
std::tuple<at::Tensor, at::Tensor> step(const at::Tensor& x, at::TensorList weights, at::TensorList hidden,
                                        at::TensorList cell, at::TensorList blocks, at::IntArrayRef spans,
                                        at::IntArrayRef counts, int64_t heads);
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

// lstm.cpp
std::tuple<at::Tensor, at::Tensor> lstm(at::Tensor gates, const at::Tensor& weight, const at::Tensor& hidden,
                                        const at::Tensor& cell);
void lstm_backward(const at::Tensor& grad, at::Tensor gates, const at::Tensor& weight, const at::Tensor& cell);

}  // namespace sharnn
