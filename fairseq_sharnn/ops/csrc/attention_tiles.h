// Which rows and queries attention works on: tiles of memory that stay in cache, and the queries of a thread.
#pragma once

#include "common.h"
#include "tile_product.h"

namespace sharnn {

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

  // What threads share out: the parts of all lanes and heads.
  int64_t items() const { return lanes * heads * parts(); }
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
inline void drop_values(const Queries& s, const float* from, int64_t stride, int64_t start, int64_t n, float* to) {
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

}  // namespace sharnn
