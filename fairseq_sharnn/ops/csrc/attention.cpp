// Attention over memory in tiles that stay in cache: no [T, S + T] matrix is ever stored, forward or backward.
//
// Tiled softmax with running maximum and sum, as in FlashAttention (Dao et al., arXiv 2205.14135): the forward pass keeps
// the log-sum-exp of each query, the backward pass computes a tile's weights from it again. Dropout masks are functions of
// a seed (common.h). A thread works on queries of its own: those of a lane and head, or a part of them where there are
// fewer lanes than threads.
#include "attention_tiles.h"
#include "operators.h"

namespace sharnn {
namespace {

constexpr int64_t kRowsAtATime = 8;  // scores of a few queries stay in the nearest cache from one pass to the next

// Draw the masks of the weights of queries [t, end), columns [start, start + n), into factors [kRowsAtATime, kTile].
void draw_masks(const Queries& s, int64_t t, int64_t end, int64_t start, int64_t n, float* factors) {
  for (int64_t i = t; i < end; ++i) {
    s.p.weight_drop.factors(factors + (i - t) * kTile, s.weight_row(i), start, n);
  }
}

// Raise the running maximum to that of the scores w [seen]: sum and mixed [d] are then relative to the new one.
void raise(const float* w, int64_t seen, int64_t d, float& highest, float& sum, float* mixed) {
  float top = highest;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < seen; ++i) top = w[i] > top ? w[i] : top;
  if (!(top > highest)) return;
  const float shrink = exp_approx(highest - top);  // nothing at first: sum and mixed are 0 then
  sum *= shrink;
#pragma omp simd
  for (int64_t i = 0; i < d; ++i) mixed[i] *= shrink;
  highest = top;
}

// Scores become weights times their mask's factors; the sum is that of the weights before the mask.
float exponentials(float* w, const float* factors, int64_t seen, float highest) {
  float total = 0.0f;
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < seen; ++i) {
    const float weight = exp_approx(w[i] - highest);
    total += weight;
    w[i] = weight * factors[i];
  }
  return total;
}

template <class Clock>
void forward(const Queries& s, float* out, float* lse, Clock clock) {
  const Problem& p = s.p;
  const Together queries(s.q(), p.step, s.T, p.d);
  const int64_t T = s.T, d = p.d, padded = panels(d) * kPanel;
  std::vector<float> scores(T * kTile), mixed(T * padded, 0.0f), packed(kTile * padded), dropped;
  std::vector<float> highest(T, -INFINITY), sum(T, 0.0f);
  std::vector<float> factors(kRowsAtATime * kTile, 1.0f);
  if (p.value_drop.active()) dropped.resize(kTile * d);
  clock.mark(kRest);
  for (const Tile& tile : p.tiles) {
    if (s.blind(tile)) break;
    const int64_t start = tile.start, n = tile.n;
    multiply_rows_turned(queries.rows.data(), queries.stride, T, s.keys(tile), tile.row_stride, n, d, packed.data(),
                         scores.data(), clock);
    for (int64_t first = 0; first < T; first += kRowsAtATime) {
      const int64_t last = std::min(T, first + kRowsAtATime);
      if (p.weight_drop.active()) draw_masks(s, first, last, start, n, factors.data());
      clock.mark(kMasks);
      for (int64_t t = first; t < last; ++t) {
        raise(scores.data() + t * kTile, s.visible(t, start, n), d, highest[t], sum[t], mixed.data() + t * padded);
      }
      clock.mark(kSoftmax);
      for (int64_t t = first; t < last; ++t) {
        float* w = scores.data() + t * kTile;
        const int64_t seen = s.visible(t, start, n);
        sum[t] += exponentials(w, factors.data() + (t - first) * kTile, seen, highest[t]);
        std::fill(w + seen, w + columns(n), 0.0f);
      }
      clock.mark(kExponentials);
    }
    const float* values = s.keys(tile);
    int64_t stride = tile.row_stride;
    if (p.value_drop.active()) {
      drop_values(s, values, stride, start, n, dropped.data());
      values = dropped.data();
      stride = d;
    }
    clock.mark(kMasks);
    add_weighted_rows(scores.data(), T, values, stride, n, d, packed.data(), mixed.data(), padded, clock);
  }
  for (int64_t t = 0; t < T; ++t) {
    float* to = out + s.offset() + t * p.step;
    const float* from = mixed.data() + t * padded;
    const float inverse = 1.0f / sum[t];
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[i] = from[i] * inverse;
    lse[s.weight_row(t)] = highest[t] + std::log(sum[t]);
  }
  clock.mark(kRest);
}

void transpose(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * stride + c];
  }
}

// Scores w [seen] become weights times their mask's factors, and the gradients g of those become gradients of the scores.
void score_gradients(float* w, float* g, const float* factors, int64_t seen, float log_sum, float mean) {
#pragma omp simd
  for (int64_t i = 0; i < seen; ++i) {
    const float weight = exp_approx(w[i] - log_sum);
    g[i] = weight * (g[i] * factors[i] - mean);
    w[i] = weight * factors[i];
  }
}

// chunk_grad is [T, B, D] of this part's own, filled with zeros.
template <class Clock>
void backward(const Queries& s, const float* grad, const float* out, const float* lse, float* query_grad,
              float* chunk_grad, Clock clock) {
  const Problem& p = s.p;
  const int64_t T = s.T, d = p.d, padded = panels(d) * kPanel;
  const float* upstream = grad + s.offset();
  const Together queries(s.q(), p.step, T, d), upstreams(upstream, p.step, T, d);
  std::vector<float> weights(T * kTile), score_grads(T * kTile), q_grad(T * padded, 0.0f);
  std::vector<float> packed(std::max(kTile, T) * padded), turned(T * kTile), row_grads(kTile * padded), dropped;
  std::vector<float> dot(T), factors(kRowsAtATime * kTile, 1.0f);
  if (p.value_drop.active()) dropped.resize(kTile * d);
  for (int64_t t = 0; t < T; ++t) {  // Σ_s A_ts dA_ts = dout_t · out_t
    const float *a = upstream + t * p.step, *b = out + s.offset() + t * p.step;
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < d; ++i) total += a[i] * b[i];
    dot[t] = total;
  }
  clock.mark(kRest);
  for (const Tile& tile : p.tiles) {
    if (s.blind(tile)) break;
    const int64_t start = tile.start, n = tile.n;
    const float *keys = s.keys(tile), *values = keys;
    int64_t stride = tile.row_stride;
    if (p.value_drop.active()) {
      drop_values(s, keys, stride, start, n, dropped.data());
      values = dropped.data();
      stride = d;
    }
    clock.mark(kMasks);
    multiply_rows_turned(queries.rows.data(), queries.stride, T, keys, tile.row_stride, n, d, packed.data(),
                         weights.data(), clock);
    multiply_rows_turned(upstreams.rows.data(), upstreams.stride, T, values, stride, n, d, packed.data(),
                         score_grads.data(), clock);
    for (int64_t first = 0; first < T; first += kRowsAtATime) {
      const int64_t last = std::min(T, first + kRowsAtATime);
      if (p.weight_drop.active()) draw_masks(s, first, last, start, n, factors.data());
      clock.mark(kMasks);
      for (int64_t t = first; t < last; ++t) {
        float *w = weights.data() + t * kTile, *g = score_grads.data() + t * kTile;
        const int64_t seen = s.visible(t, start, n);
        score_gradients(w, g, factors.data() + (t - first) * kTile, seen, lse[s.weight_row(t)], dot[t]);
        std::fill(w + seen, w + columns(n), 0.0f);
        std::fill(g + seen, g + columns(n), 0.0f);
      }
      clock.mark(kExponentials);
    }
    add_weighted_rows(score_grads.data(), T, keys, tile.row_stride, n, d, packed.data(), q_grad.data(), padded, clock);
    if (start >= p.past) {
      pack(upstream, p.step, 1, T, 0, panels(d), d, packed.data());
      transpose(weights.data(), kTile, T, n, turned.data());
      clock.mark(kPacking);
      multiply<false>(turned.data(), T, packed.data(), n, d, T, row_grads.data(), padded);
      clock.mark(kProducts);
      if (p.value_drop.active()) {
        drop_values(s, row_grads.data(), padded, start, n, dropped.data());
        for (int64_t r = 0; r < n; ++r) std::copy_n(dropped.data() + r * d, d, row_grads.data() + r * padded);
      }
      clock.mark(kMasks);
      pack(s.q(), p.step, 1, T, 0, panels(d), d, packed.data());
      transpose(score_grads.data(), kTile, T, n, turned.data());
      clock.mark(kPacking);
      multiply<true>(turned.data(), T, packed.data(), n, d, T, row_grads.data(), padded);
      clock.mark(kProducts);
      for (int64_t r = 0; r < n; ++r) {
        float* to = chunk_grad + (start - p.past + r) * p.step + s.lane * p.width + s.head * d;
        std::copy_n(row_grads.data() + r * padded, d, to);
      }
      clock.mark(kRest);
    }
  }
  for (int64_t t = 0; t < T; ++t) std::copy_n(q_grad.data() + t * padded, d, query_grad + s.offset() + t * p.step);
  clock.mark(kRest);
}

// seconds: of each lane, head and part, [kPhases] each; not used without a clock.
template <class Clock>
std::tuple<at::Tensor, at::Tensor> run_forward(const at::Tensor& query, at::TensorList segments, int64_t heads,
                                               double rate, int64_t seed, double* seconds) {
  const auto q = query.contiguous();
  const Problem p(q, segments, heads, rate, seed);
  auto out = at::empty_like(q), lse = at::empty({p.lanes, heads, p.length}, q.options());
  const int64_t parts = p.parts();
  at::parallel_for(0, p.items(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      forward(Queries(p, item, parts), out.mutable_data_ptr<float>(), lse.mutable_data_ptr<float>(),
              Clock(seconds, item));
    }
  });
  return {out, lse};
}

template <class Clock>
std::tuple<at::Tensor, at::Tensor> run_backward(const at::Tensor& grad, const at::Tensor& query,
                                                at::TensorList segments, const at::Tensor& out, const at::Tensor& lse,
                                                int64_t heads, double rate, int64_t seed, double* seconds) {
  const auto upstream = grad.contiguous(), q = query.contiguous();
  const Problem p(q, segments, heads, rate, seed);
  TORCH_CHECK(upstream.sizes() == q.sizes() && out.sizes() == q.sizes() && out.is_contiguous() && lse.is_contiguous() &&
                  lse.numel() == p.lanes * heads * p.length,
              "attend_backward: grad and out must be [T, B, D], log-sum-exp [B, heads, T]");
  const int64_t parts = p.parts();
  auto query_grad = at::empty_like(q), chunk_grads = at::zeros({parts, p.length, p.lanes, p.width}, q.options());
  at::parallel_for(0, p.items(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      float* own = chunk_grads.mutable_data_ptr<float>() + item % parts * q.numel();
      backward(Queries(p, item, parts), upstream.const_data_ptr<float>(), out.const_data_ptr<float>(),
               lse.const_data_ptr<float>(), query_grad.mutable_data_ptr<float>(), own, Clock(seconds, item));
    }
  });
  return {query_grad, parts == 1 ? chunk_grads[0] : chunk_grads.sum(0)};
}

// Room for the seconds of each lane, head and part.
at::Tensor no_seconds(const at::Tensor& query, at::TensorList segments, int64_t heads) {
  const Problem p(query, segments, heads, 0.0, 0);
  return at::zeros({p.items(), static_cast<int64_t>(kPhases)}, query.options().dtype(at::kDouble));
}

}  // namespace

// query [T, B, D], segments [B, n, D] whose last T rows are the chunk's -> out [T, B, D], log-sum-exp [B, heads, T].
std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& query, at::TensorList segments, int64_t heads, double rate,
                                          int64_t seed) {
  return run_forward<NoClock>(query, segments, heads, rate, seed, nullptr);
}

// Gradients of query and of the chunk's rows, both [T, B, D].
std::tuple<at::Tensor, at::Tensor> attend_backward(const at::Tensor& grad, const at::Tensor& query,
                                                   at::TensorList segments, const at::Tensor& out,
                                                   const at::Tensor& lse, int64_t heads, double rate, int64_t seed) {
  return run_backward<NoClock>(grad, query, segments, out, lse, heads, rate, seed, nullptr);
}

// The seconds of each phase in `attend`: [lanes * heads * parts, kPhases], added up over threads.
at::Tensor attend_phases(const at::Tensor& query, at::TensorList segments, int64_t heads, double rate, int64_t seed) {
  const auto seconds = no_seconds(query, segments, heads);
  run_forward<PhaseClock>(query, segments, heads, rate, seed, seconds.mutable_data_ptr<double>());
  return seconds;
}

// The same of `attend_backward`.
at::Tensor attend_backward_phases(const at::Tensor& grad, const at::Tensor& query, at::TensorList segments,
                                  const at::Tensor& out, const at::Tensor& lse, int64_t heads, double rate,
                                  int64_t seed) {
  const auto seconds = no_seconds(query, segments, heads);
  run_backward<PhaseClock>(grad, query, segments, out, lse, heads, rate, seed, seconds.mutable_data_ptr<double>());
  return seconds;
}

}  // namespace sharnn
