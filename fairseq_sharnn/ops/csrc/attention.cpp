// Attention over memory in tiles that stay in cache: no [T, S + T] matrix is ever stored, forward or backward.
//
// Tiled softmax with running maximum and sum, as in FlashAttention (Dao et al., arXiv 2205.14135): the forward pass keeps
// the log-sum-exp of each query, the backward pass computes a tile's weights from it again. Dropout masks are functions of
// a seed (common.h). A thread works on queries of its own: those of a lane and head, or a part of them where there are
// fewer lanes than threads.
#include "common.h"
#include "operators.h"
#include "product.h"

namespace sharnn {
namespace {

constexpr int64_t kTile = 256;  // rows of memory in a tile: a tile, its scores and the queries fit in a core's cache

// Up to kTile consecutive rows of memory and chunk, for all lanes.
struct Tile {
  const float* rows;
  int64_t start, n;  // place among the S + T rows, and how many
  int64_t lane_stride, row_stride;
};

// What all queries have in common. query is [T, B, D]; the segments are the S + T rows, the last T those of the chunk.
struct Problem {
  int64_t lanes, length, width, step, rows, past, heads, d;  // step: from one time to the next, in query and output
  const float* query;
  std::vector<Tile> tiles;  // each in one segment, and in memory or in the chunk, never in both
  Dropout weight_drop, value_drop;

  Problem(const at::Tensor& q, at::TensorList segments, int64_t heads_, double rate, int64_t seed)
      : lanes(q.size(1)),
        length(q.size(0)),
        width(q.size(2)),
        step(q.size(1) * q.size(2)),
        rows(0),
        heads(heads_),
        d(q.size(2) / std::max<int64_t>(1, heads_)),
        query(q.const_data_ptr<float>()),
        weight_drop(rate, seed),
        value_drop(rate, seed ^ 0x5DEECE66DLL) {
    TORCH_CHECK(heads > 0 && width % heads == 0, "attend: the heads must divide the width");
    for (const auto& m : segments) {
      TORCH_CHECK(m.dim() == 3 && m.stride(2) == 1 && m.size(0) == lanes && m.size(2) == width,
                  "attend: segments must be [B, n, D], their columns together");
      rows += m.size(1);
    }
    past = rows - length;
    TORCH_CHECK(past >= 0, "attend: fewer rows than queries");
    int64_t place = 0;
    for (const auto& m : segments) {
      for (int64_t i = 0; i < m.size(1);) {
        int64_t n = std::min(kTile, m.size(1) - i);
        if (place < past) n = std::min(n, past - place);
        tiles.push_back({m.const_data_ptr<float>() + i * m.stride(1), place, n, m.stride(0), m.stride(1)});
        i += n;
        place += n;
      }
    }
  }

  int64_t parts() const {
    const int64_t threads = at::get_num_threads(), work = std::max<int64_t>(1, lanes * heads);
    return std::max<int64_t>(1, std::min((threads + work - 1) / work, length / 16));
  }
};

// The queries [first, first + T) of one lane and head.
struct Queries {
  const Problem& p;
  int64_t lane, head, first, T;

  Queries(const Problem& p_, int64_t item, int64_t parts)
      : p(p_), lane(item / parts / p_.heads), head(item / parts % p_.heads) {
    const int64_t part = item % parts;
    first = p.length * part / parts;
    T = p.length * (part + 1) / parts - first;
  }

  int64_t offset() const { return first * p.step + lane * p.width + head * p.d; }
  const float* q() const { return p.query + offset(); }
  const float* keys(const Tile& tile) const { return tile.rows + lane * tile.lane_stride + head * p.d; }
  int64_t weight_row(int64_t t) const { return (lane * p.heads + head) * p.length + first + t; }
  // Whether no query sees anything of the tile.
  bool blind(const Tile& tile) const { return tile.start >= p.past + first + T; }

  // Of the columns [start, start + n), how many query t sees: memory whole, the chunk up to itself.
  int64_t visible(int64_t t, int64_t start, int64_t n) const {
    return std::max<int64_t>(0, std::min(n, p.past + first + t + 1 - start));
  }
};

// Multiply rows [n, d] of values, or of their gradient, by their dropout mask.
void drop_values(const Queries& s, const float* from, int64_t stride, int64_t start, int64_t n, float* to) {
  const int64_t d = s.p.d;
  std::vector<float> factors(d);
  for (int64_t row = 0; row < n; ++row) {
    s.p.value_drop.factors(factors.data(), s.lane * s.p.rows + start + row, s.head * d, d);
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[row * d + i] = from[row * stride + i] * factors[i];
  }
}

// Rows of d columns, copied together: a lane's own lie a power of two apart, where a cache has room for few of them.
struct Together {
  int64_t stride;
  std::vector<float> rows;

  Together(const float* from, int64_t from_stride, int64_t n, int64_t d) : stride(d + kPanel), rows(n * stride) {
    for (int64_t row = 0; row < n; ++row) std::copy_n(from + row * from_stride, d, rows.data() + row * stride);
  }
};

void forward(const Queries& s, float* out, float* lse) {
  const Problem& p = s.p;
  const Together queries(s.q(), p.step, s.T, p.d);
  const int64_t T = s.T, d = p.d, padded = panels(d) * kPanel;
  std::vector<float> scores(T * kTile), mixed(T * padded, 0.0f), packed(kTile * padded), dropped;
  std::vector<float> highest(T, -INFINITY), sum(T, 0.0f), factors(kTile, 1.0f);
  if (p.value_drop.active()) dropped.resize(kTile * d);
  for (const Tile& tile : p.tiles) {
    if (s.blind(tile)) break;
    const int64_t start = tile.start, n = tile.n;
    pack(s.keys(tile), 1, tile.row_stride, d, 0, panels(n), n, packed.data());
    multiply<false>(queries.rows.data(), queries.stride, packed.data(), T, n, d, scores.data(), kTile);
    for (int64_t t = 0; t < T; ++t) {
      float* w = scores.data() + t * kTile;
      const int64_t seen = s.visible(t, start, n);
      float top = highest[t];
#pragma omp simd reduction(max : top)
      for (int64_t i = 0; i < seen; ++i) top = w[i] > top ? w[i] : top;
      float total = 0.0f;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < seen; ++i) {
        w[i] = exp_approx(w[i] - top);
        total += w[i];
      }
      std::fill(w + seen, w + n, 0.0f);
      if (p.weight_drop.active()) {
        p.weight_drop.factors(factors.data(), s.weight_row(t), start, n);
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) w[i] *= factors[i];
      }
      if (top > highest[t]) {
        const float shrink = start == 0 ? 0.0f : exp_approx(highest[t] - top);
        sum[t] *= shrink;
        float* row = mixed.data() + t * padded;
#pragma omp simd
        for (int64_t i = 0; i < d; ++i) row[i] *= shrink;
        highest[t] = top;
      }
      sum[t] += total;
    }
    const float* values = s.keys(tile);
    int64_t stride = tile.row_stride;
    if (p.value_drop.active()) {
      drop_values(s, values, stride, start, n, dropped.data());
      values = dropped.data();
      stride = d;
    }
    pack(values, stride, 1, n, 0, panels(d), d, packed.data());
    multiply<true>(scores.data(), kTile, packed.data(), T, d, n, mixed.data(), padded);
  }
  for (int64_t t = 0; t < T; ++t) {
    float* to = out + s.offset() + t * p.step;
    const float* from = mixed.data() + t * padded;
    const float inverse = 1.0f / sum[t];
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[i] = from[i] * inverse;
    lse[s.weight_row(t)] = highest[t] + std::log(sum[t]);
  }
}

void transpose(const float* from, int64_t stride, int64_t rows, int64_t columns, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * stride + c];
  }
}

// chunk_grad is [T, B, D] of this part's own, filled with zeros.
void backward(const Queries& s, const float* grad, const float* out, const float* lse, float* query_grad,
              float* chunk_grad) {
  const Problem& p = s.p;
  const int64_t T = s.T, d = p.d, padded = panels(d) * kPanel;
  const float* upstream = grad + s.offset();
  const Together queries(s.q(), p.step, T, d), upstreams(upstream, p.step, T, d);
  std::vector<float> weights(T * kTile), score_grads(T * kTile), q_grad(T * padded, 0.0f);
  std::vector<float> packed(std::max(kTile, T) * padded), turned(T * kTile), row_grads(kTile * padded), dropped;
  std::vector<float> dot(T), factors(kTile, 1.0f);
  if (p.value_drop.active()) dropped.resize(kTile * d);
  for (int64_t t = 0; t < T; ++t) {  // Σ_s A_ts dA_ts = dout_t · out_t
    const float *a = upstream + t * p.step, *b = out + s.offset() + t * p.step;
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < d; ++i) total += a[i] * b[i];
    dot[t] = total;
  }
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
    pack(keys, 1, tile.row_stride, d, 0, panels(n), n, packed.data());
    multiply<false>(queries.rows.data(), queries.stride, packed.data(), T, n, d, weights.data(), kTile);
    pack(values, 1, stride, d, 0, panels(n), n, packed.data());
    multiply<false>(upstreams.rows.data(), upstreams.stride, packed.data(), T, n, d, score_grads.data(), kTile);
    for (int64_t t = 0; t < T; ++t) {
      float *w = weights.data() + t * kTile, *g = score_grads.data() + t * kTile;
      const float *k = factors.data(), log_sum = lse[s.weight_row(t)], mean = dot[t];
      const int64_t seen = s.visible(t, start, n);
      if (p.weight_drop.active()) p.weight_drop.factors(factors.data(), s.weight_row(t), start, n);
#pragma omp simd
      for (int64_t i = 0; i < seen; ++i) {
        const float weight = exp_approx(w[i] - log_sum);
        g[i] = weight * (g[i] * k[i] - mean);
        w[i] = weight * k[i];
      }
      std::fill(w + seen, w + n, 0.0f);
      std::fill(g + seen, g + n, 0.0f);
    }
    pack(keys, tile.row_stride, 1, n, 0, panels(d), d, packed.data());
    multiply<true>(score_grads.data(), kTile, packed.data(), T, d, n, q_grad.data(), padded);
    if (start >= p.past) {
      pack(upstream, p.step, 1, T, 0, panels(d), d, packed.data());
      transpose(weights.data(), kTile, T, n, turned.data());
      multiply<false>(turned.data(), T, packed.data(), n, d, T, row_grads.data(), padded);
      if (p.value_drop.active()) {
        drop_values(s, row_grads.data(), padded, start, n, dropped.data());
        for (int64_t r = 0; r < n; ++r) std::copy_n(dropped.data() + r * d, d, row_grads.data() + r * padded);
      }
      pack(s.q(), p.step, 1, T, 0, panels(d), d, packed.data());
      transpose(score_grads.data(), kTile, T, n, turned.data());
      multiply<true>(turned.data(), T, packed.data(), n, d, T, row_grads.data(), padded);
      for (int64_t r = 0; r < n; ++r) {
        float* to = chunk_grad + (start - p.past + r) * p.step + s.lane * p.width + s.head * d;
        std::copy_n(row_grads.data() + r * padded, d, to);
      }
    }
  }
  for (int64_t t = 0; t < T; ++t) std::copy_n(q_grad.data() + t * padded, d, query_grad + s.offset() + t * p.step);
}

}  // namespace

// query [T, B, D], segments [B, n, D] whose last T rows are the chunk's -> out [T, B, D], log-sum-exp [B, heads, T].
std::tuple<at::Tensor, at::Tensor> attend(const at::Tensor& query, at::TensorList segments, int64_t heads, double rate,
                                          int64_t seed) {
  const auto q = query.contiguous();
  const Problem p(q, segments, heads, rate, seed);
  auto out = at::empty_like(q), lse = at::empty({p.lanes, heads, p.length}, q.options());
  const int64_t parts = p.parts();
  at::parallel_for(0, p.lanes * heads * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      forward(Queries(p, item, parts), out.mutable_data_ptr<float>(), lse.mutable_data_ptr<float>());
    }
  });
  return {out, lse};
}

// Gradients of query and of the chunk's rows, both [T, B, D].
std::tuple<at::Tensor, at::Tensor> attend_backward(const at::Tensor& grad, const at::Tensor& query,
                                                   at::TensorList segments, const at::Tensor& out,
                                                   const at::Tensor& lse, int64_t heads, double rate, int64_t seed) {
  const auto upstream = grad.contiguous(), q = query.contiguous();
  const Problem p(q, segments, heads, rate, seed);
  TORCH_CHECK(upstream.sizes() == q.sizes() && out.sizes() == q.sizes() && out.is_contiguous() && lse.is_contiguous() &&
                  lse.numel() == p.lanes * heads * p.length,
              "attend_backward: grad and out must be [T, B, D], log-sum-exp [B, heads, T]");
  const int64_t parts = p.parts();
  auto query_grad = at::empty_like(q), chunk_grads = at::zeros({parts, p.length, p.lanes, p.width}, q.options());
  at::parallel_for(0, p.lanes * heads * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      float* own = chunk_grads.mutable_data_ptr<float>() + item % parts * q.numel();
      backward(Queries(p, item, parts), upstream.const_data_ptr<float>(), out.const_data_ptr<float>(),
               lse.const_data_ptr<float>(), query_grad.mutable_data_ptr<float>(), own);
    }
  });
  return {query_grad, parts == 1 ? chunk_grads[0] : chunk_grads.sum(0)};
}

}  // namespace sharnn
