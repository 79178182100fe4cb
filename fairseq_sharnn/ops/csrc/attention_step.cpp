// Attention of one query a lane, as in generation: the memory is read once, at the speed of memory.
#include "common.h"
#include "operators.h"

namespace sharnn {
namespace {

constexpr int64_t kPart = 512;  // rows a task reads
constexpr int64_t kGroup = 16;  // rows whose scores are taken before their values: they are still in the nearest cache

// Running softmax over `n` rows: highest score, sum of exponentials, and the weighted sum of rows [d] in `mixed`.
void attend_rows(const float* q, const float* rows, int64_t stride, int64_t n, int64_t d, float& highest, float& sum,
                 float* mixed) {
  float scores[kGroup];
  highest = -INFINITY;
  sum = 0.0f;
  std::fill(mixed, mixed + d, 0.0f);
  for (int64_t start = 0; start < n; start += kGroup) {
    const int64_t size = std::min(kGroup, n - start);
    const float* group = rows + start * stride;
    float top = highest;
    for (int64_t r = 0; r < size; r += 4) {  // four sums at a time: one alone would wait for its own additions
      const float* a = group + r * stride;
      const float *b = a + (r + 1 < size) * stride, *c = a + 2 * (r + 2 < size) * stride, *e = a + 3 * (r + 3 < size) * stride;
      float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
      for (int64_t i = 0; i < d; ++i) {
        s0 += q[i] * a[i];
        s1 += q[i] * b[i];
        s2 += q[i] * c[i];
        s3 += q[i] * e[i];
      }
      scores[r] = s0, scores[r + 1] = s1, scores[r + 2] = s2, scores[r + 3] = s3;
    }
    for (int64_t r = 0; r < size; ++r) top = scores[r] > top ? scores[r] : top;
    if (top > highest) {
      const float shrink = start == 0 ? 0.0f : exp_approx(highest - top);
      sum *= shrink;
#pragma omp simd
      for (int64_t i = 0; i < d; ++i) mixed[i] *= shrink;
      highest = top;
    }
    for (int64_t r = 0; r < kGroup; ++r) {
      scores[r] = r < size ? exp_approx(scores[r] - highest) : 0.0f;
      sum += scores[r];
    }
    for (int64_t r = 0; r < size; r += 4) {
      const float* a = group + r * stride;
      const float *b = a + (r + 1 < size) * stride, *c = a + 2 * (r + 2 < size) * stride, *e = a + 3 * (r + 3 < size) * stride;
      const float s0 = scores[r], s1 = scores[r + 1], s2 = scores[r + 2], s3 = scores[r + 3];
#pragma omp simd
      for (int64_t i = 0; i < d; ++i) mixed[i] += s0 * a[i] + s1 * b[i] + s2 * c[i] + s3 * e[i];
    }
  }
}

}  // namespace

// query [B, 1, D], segments [B, n, D] of the memory -> [B, 1, D]; no dropout.
at::Tensor attend_step(const at::Tensor& query, at::TensorList segments, int64_t heads) {
  const auto q = query.contiguous();
  const int64_t B = q.size(0), D = q.size(2);
  TORCH_CHECK(heads > 0 && D % heads == 0 && q.size(1) == 1, "attend_step: one query a lane, heads that divide the width");
  const int64_t d = D / heads;
  struct Part {
    const float* rows;
    int64_t n, lane_stride, row_stride;
  };
  std::vector<Part> rows;
  for (const auto& m : segments) {
    TORCH_CHECK(m.dim() == 3 && m.stride(2) == 1 && m.size(0) == B && m.size(2) == D,
                "attend_step: segments must be [B, n, D], their columns together");
    for (int64_t i = 0; i < m.size(1); i += kPart) {
      const float* from = m.const_data_ptr<float>() + i * m.stride(1);
      rows.push_back({from, std::min(kPart, m.size(1) - i), m.stride(0), m.stride(1)});
    }
  }
  const int64_t parts = static_cast<int64_t>(rows.size());
  TORCH_CHECK(parts > 0, "attend_step: no rows to attend to");
  auto out = at::empty_like(q);
  std::vector<float> highest(B * heads * parts), sum(B * heads * parts), mixed(B * heads * parts * d);
  const float* from = q.const_data_ptr<float>();
  at::parallel_for(0, B * heads * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / parts % heads, lane = item / parts / heads;
      const Part& part = rows[item % parts];
      attend_rows(from + lane * D + head * d, part.rows + lane * part.lane_stride + head * d, part.row_stride, part.n, d,
                  highest[item], sum[item], mixed.data() + item * d);
    }
  });
  for (int64_t which = 0; which < B * heads; ++which) {  // join the parts by their log-sum-exp
    const float *top = highest.data() + which * parts, *own = sum.data() + which * parts;
    const float highest_of_all = *std::max_element(top, top + parts);
    float* to = out.mutable_data_ptr<float>() + which * d;
    float total = 0.0f;
    std::fill(to, to + d, 0.0f);
    for (int64_t part = 0; part < parts; ++part) {
      const float share = exp_approx(top[part] - highest_of_all);
      const float* mix = mixed.data() + (which * parts + part) * d;
      total += share * own[part];
      for (int64_t i = 0; i < d; ++i) to[i] += share * mix[i];
    }
    for (int64_t i = 0; i < d; ++i) to[i] /= total;
  }
  return out;
}

}  // namespace sharnn
