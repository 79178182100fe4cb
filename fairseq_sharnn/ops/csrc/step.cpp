// One time step of a few lanes through all layers, as in generation: every weight is read once, so it runs at the speed of
// memory. It is the only implementation of a single step. modules/block.py is that of a chunk.
#include "common.h"
#include "few_lanes.h"
#include "operators.h"

namespace sharnn {
namespace {

constexpr int64_t kWork = 1 << 16;  // products below which a second thread costs more than it brings

// How many items a thread should take at least, of so many products each.
int64_t grain(int64_t products) { return std::max<int64_t>(1, kWork / std::max<int64_t>(1, products)); }

// A weight matrix [N, K] in float32, bfloat16 or int8; `scales` [N] of int8 rows, else null.
struct Matrix {
  at::Tensor rows;
  const float* scales = nullptr;
  int64_t K;

  Matrix(const at::Tensor& rows_, const at::Tensor& scales_, int64_t N, int64_t K_) : rows(rows_.contiguous()), K(K_) {
    const auto type = rows.scalar_type();
    TORCH_CHECK(has_shape(rows, {N, K}), "step: a weight must be [", N, ", ", K, "], not ", rows.sizes());
    TORCH_CHECK(type == at::kFloat || type == at::kBFloat16 || type == at::kChar,
                "step: weights must be float32, bfloat16 or int8");
    if (type == at::kChar) {
      TORCH_CHECK(has_shape(scales_, {N}) && scales_.scalar_type() == at::kFloat,
                  "step: int8 weights need a scale for each of their ", N, " rows");
      scales = scales_.const_data_ptr<float>();
    }
  }

  // out[lane * stride + n] = row n · x[lane] for rows [begin, end).
  void times(const float* x, int64_t lanes, int64_t begin, int64_t end, float* out, int64_t stride) const {
    if (rows.scalar_type() == at::kFloat) {
      dot_matrix(x, lanes, rows.const_data_ptr<float>(), begin, end, K, out, stride);
    } else if (scales == nullptr) {
      dot_matrix(x, lanes, static_cast<const uint16_t*>(rows.const_data_ptr()), begin, end, K, out, stride);
    } else {
      dot_matrix(x, lanes, rows.const_data_ptr<int8_t>(), begin, end, K, out, stride);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        for (int64_t n = begin; n < end; ++n) out[lane * stride + n] *= scales[n];
      }
    }
  }
};

// The weights of a layer after the other, in the order in which modules/single_step.py hands them over.
class Reader {
 public:
  explicit Reader(at::TensorList weights) : weights_(weights) {}

  const float* vector(int64_t n) {
    const auto& tensor = next();
    TORCH_CHECK(has_shape(tensor, {n}) && tensor.is_contiguous() && tensor.scalar_type() == at::kFloat,
                "step: a vector must be [", n, "] in float32, not ", tensor.sizes());
    return tensor.const_data_ptr<float>();
  }
  Matrix matrix(int64_t N, int64_t K) {
    const auto& rows = next();
    return Matrix(rows, next(), N, K);
  }
  int64_t rows_of_next() const { return at_ < weights_.size() ? weights_[at_].size(0) : 0; }
  bool done() const { return at_ == weights_.size(); }

 private:
  at::TensorList weights_;
  size_t at_ = 0;

  const at::Tensor& next() {
    TORCH_CHECK(at_ < weights_.size(), "step: weights are missing");
    return weights_[at_++];
  }
};

// LayerNorm over n columns (eps 1e-12).
struct Norm {
  const float *weight, *bias;

  Norm(Reader& from, int64_t n) : weight(from.vector(n)), bias(from.vector(n)) {}

  void row(const float* x, int64_t n, float* out) const {
    float mean = 0.0f, square = 0.0f;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < n; ++i) mean += x[i];
    mean /= static_cast<float>(n);
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
    const float inverse = 1.0f / std::sqrt(square / static_cast<float>(n) + 1e-12f);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = (x[i] - mean) * inverse * weight[i] + bias[i];
  }
  void operator()(const float* x, int64_t lanes, int64_t n, float* out) const {
    for (int64_t lane = 0; lane < lanes; ++lane) row(x + lane * n, n, out + lane * n);
  }
};

inline float tanh_of(float x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// h and c [B, D] after the LSTM's step on x [B, D]; gate order i f g o. room: 2 x [B, 4D].
void run_lstm(Reader& from, const float* x, const float* h0, const float* c0, int64_t B, int64_t D, float* room, float* h,
              float* c) {
  const Matrix input = from.matrix(4 * D, D), hidden = from.matrix(4 * D, D);
  const float *input_bias = from.vector(4 * D), *hidden_bias = from.vector(4 * D);
  float *from_input = room, *from_hidden = room + B * 4 * D;
  at::parallel_for(0, D, grain(8 * D * B), [&](int64_t begin, int64_t end) {
    for (int64_t gate = 0; gate < 4; ++gate) {
      input.times(x, B, gate * D + begin, gate * D + end, from_input, 4 * D);
      hidden.times(h0, B, gate * D + begin, gate * D + end, from_hidden, 4 * D);
    }
    for (int64_t lane = 0; lane < B; ++lane) {
      const float *a = from_input + lane * 4 * D, *b = from_hidden + lane * 4 * D, *before = c0 + lane * D;
      float *c_new = c + lane * D, *h_new = h + lane * D;
      const auto sum = [&](int64_t i) { return (a[i] + input_bias[i]) + (b[i] + hidden_bias[i]); };
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const float next = sigmoid(sum(D + i)) * before[i] + sigmoid(sum(i)) * tanh_of(sum(2 * D + i));
        c_new[i] = next;
        h_new[i] = sigmoid(sum(3 * D + i)) * tanh_of(next);
      }
    }
  });
}

// The next layer's memory: counts has a 0 for a layer that does not attend, else a number for each group of lanes.
Memory next_memory(const Memory& all, int64_t B, size_t& block, size_t& place) {
  const size_t first_block = block, first_place = place;
  int64_t lanes = 0;
  while (lanes < B) {
    TORCH_CHECK(place < all.counts.size(), "step: counts are missing");
    const int64_t count = all.counts[place++];
    if (count == 0 && lanes == 0) return {};
    TORCH_CHECK(count > 0 && block + count <= all.blocks.size() && all.blocks[block].dim() == 3,
                "step: blocks of memory are missing");
    lanes += all.blocks[block].size(0);
    block += count;
  }
  TORCH_CHECK(2 * block <= all.spans.size(), "step: each block needs two places in spans");
  return {all.blocks.slice(first_block, block - first_block), all.spans.slice(2 * first_block, 2 * (block - first_block)),
          all.counts.slice(first_place, place - first_place)};
}

// The memory's row of this step: LN(h) [B, D].
void write_memory(const Norm& norm, const float* h, const Memory& memory, int64_t B, int64_t D) {
  int64_t lane = 0;
  size_t last = 0;
  for (const int64_t count : memory.counts) {
    last += count;
    const auto& rows = memory.blocks[last - 1];
    const int64_t stop = memory.spans[2 * last - 1];
    TORCH_CHECK(rows.dim() == 3 && stop > 0 && stop <= rows.size(1) && rows.size(2) == D && rows.stride(2) == 1 &&
                    lane + rows.size(0) <= B && rows.scalar_type() == at::kFloat,
                "step: blocks must be [B, n, D] in float32, their columns together");
    for (int64_t own = 0; own < rows.size(0); ++own, ++lane) {
      norm.row(h + lane * D, D, rows.mutable_data_ptr<float>() + own * rows.stride(0) + (stop - 1) * rows.stride(1));
    }
  }
}

// h [B, D] becomes LN(h) plus attention over the memory. room: 3 x [B, D].
void run_attention(Reader& from, float* h, const Memory& memory, int64_t B, int64_t D, int64_t heads, float* room) {
  const Norm memory_norm(from, D), input_norm(from, D);
  const Matrix query = from.matrix(D, D);
  const float* bias = from.vector(D);
  const Norm query_norm(from, D);
  const float *query_gate = from.vector(D), *key_gate = from.vector(D), *value = from.vector(D);
  const float scale = 1.0f / std::sqrt(static_cast<float>(D / heads));
  float *input = room, *q = room + B * D, *mixed = room + 2 * B * D;
  write_memory(memory_norm, h, memory, B, D);
  input_norm(h, B, D, input);
  at::parallel_for(0, D, grain(D * B), [&](int64_t begin, int64_t end) { query.times(input, B, begin, end, q, D); });
  for (int64_t lane = 0; lane < B; ++lane) {
    float* own = q + lane * D;
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) own[i] += bias[i];
    query_norm.row(own, D, own);
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) own[i] *= sigmoid(query_gate[i]) * sigmoid(key_gate[i]) * scale;
  }
  attend_step(q, memory, B, D, heads, mixed);
  for (int64_t lane = 0; lane < B; ++lane) {
    const int64_t at = lane * D;
#pragma omp simd
    for (int64_t i = 0; i < D; ++i) h[at + i] = input[at + i] + mixed[at + i] * value[i];
  }
}

// LN_residual(h) + Boom(LN_input(h)) of h [B, D] into out. Rows of the weight past a multiple of D are left out.
void run_boom(Reader& from, const float* h, int64_t B, int64_t D, std::vector<float>& room, float* out) {
  const Norm input_norm(from, D), residual(from, D);
  const int64_t H = from.rows_of_next(), folds = H / D;
  TORCH_CHECK(folds > 0, "step: the Boom layer must be at least as wide as the model");
  const Matrix expand = from.matrix(H, D);
  const float* bias = from.vector(H);
  room.resize(std::max<size_t>(room.size(), (1 + folds) * B * D));
  float *input = room.data(), *wide = room.data() + B * D;
  input_norm(h, B, D, input);
  residual(h, B, D, out);
  at::parallel_for(0, D, grain(folds * D * B), [&](int64_t begin, int64_t end) {
    for (int64_t fold = 0; fold < folds; ++fold) {
      expand.times(input, B, fold * D + begin, fold * D + end, wide, folds * D);
      for (int64_t lane = 0; lane < B; ++lane) {
        const float *a = wide + (lane * folds + fold) * D, *b = bias + fold * D;
        float* to = out + lane * D;
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) to[i] += (a[i] + b[i]) * sigmoid(1.702f * (a[i] + b[i]));
      }
    }
  });
}

}  // namespace

// x [B, D] -> features [B, D], and the hidden and cell states of L layers after the step, [2L, B, D]. hidden, cell [B, D]
// of each layer. blocks, spans, counts: Memory of all layers; the last row of each group of lanes is written here. No
// dropout.
std::tuple<at::Tensor, at::Tensor> step(const at::Tensor& x, at::TensorList weights, at::TensorList hidden,
                                        at::TensorList cell, at::TensorList blocks, at::IntArrayRef spans,
                                        at::IntArrayRef counts, int64_t heads) {
  TORCH_CHECK(x.dim() == 2 && heads > 0 && x.size(1) % heads == 0, "step: x must be [B, D], and heads divide D");
  const int64_t B = x.size(0), D = x.size(1), L = static_cast<int64_t>(hidden.size());
  TORCH_CHECK(static_cast<int64_t>(cell.size()) == L, "step: each layer needs a hidden and a cell state");
  Reader from(weights);
  auto features = at::empty({B, D}, x.options()), after = at::empty({2 * L, B, D}, x.options());
  const auto start = x.contiguous();
  float *h = features.mutable_data_ptr<float>(), *states = after.mutable_data_ptr<float>();
  std::copy_n(start.const_data_ptr<float>(), B * D, h);
  static thread_local std::vector<float> own, room;  // kept for the next step
  own.resize(std::max<size_t>(own.size(), B * D));
  room.resize(std::max<size_t>(room.size(), 8 * B * D));
  const Memory all{blocks, spans, counts};
  size_t block = 0, place = 0;
  for (int64_t layer = 0; layer < L; ++layer) {
    const auto h0 = hidden[layer].contiguous(), c0 = cell[layer].contiguous();
    TORCH_CHECK(has_shape(h0, {B, D}) && has_shape(c0, {B, D}), "step: hidden and cell must be [B, D]");
    float *next = states + layer * B * D, *mixed = own.data();
    const Norm norm(from, D);
    norm(h, B, D, mixed);
    run_lstm(from, mixed, h0.const_data_ptr<float>(), c0.const_data_ptr<float>(), B, D, room.data(), next,
             states + (L + layer) * B * D);
    std::copy_n(next, B * D, mixed);
    const Memory memory = next_memory(all, B, block, place);
    if (!memory.counts.empty()) run_attention(from, mixed, memory, B, D, heads, room.data());
    run_boom(from, mixed, B, D, room, h);
  }
  TORCH_CHECK(from.done() && place == counts.size() && 2 * block == spans.size(), "step: more weights, counts or spans than the layers take");
  return {features, after};
}

// x [B, K] times the rows of a weight [N, K], plus bias [N] -> [B, N]: a projection of a few lanes.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto input = x.contiguous(), rows = weight.contiguous(), added = bias.contiguous();
  const int64_t N = rows.size(0), B = input.size(0), K = input.size(1);
  TORCH_CHECK(has_shape(rows, {N, K}) && has_shape(added, {N}) && rows.scalar_type() == at::kFloat,
              "project: a weight must be [N, ", K, "] in float32, and a bias [N]");
  auto out = at::empty({B, N}, x.options());
  float* to = out.mutable_data_ptr<float>();
  const float* b = added.const_data_ptr<float>();
  at::parallel_for(0, N, grain(K * B), [&](int64_t begin, int64_t end) {
    dot_matrix(input.const_data_ptr<float>(), B, rows.const_data_ptr<float>(), begin, end, K, to, N);
    for (int64_t lane = 0; lane < B; ++lane) {
      for (int64_t n = begin; n < end; ++n) to[lane * N + n] += b[n];
    }
  });
  return out;
}

}  // namespace sharnn
