// Attention of one query a lane, as in generation: the memory is read once, at the speed of memory.
#include "few_lanes.h"
#include "common.h"
#include "operators.h"

namespace sharnn {
namespace {

constexpr int64_t kPart = 512;  // rows a task reads
constexpr int64_t kGroup = 16;  // rows whose scores are taken before their values: they are still in the nearest cache

// mixed [d] += the sum of R rows, each times its weight.
template <int R>
void add_rows(const float* rows, int64_t stride, const float* weights, int64_t d, float* mixed) {
  int64_t i = 0;
  for (; i + kVector <= d; i += kVector) {
    Vector sum = load(mixed + i);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum += load(rows + r * stride + i) * weights[r];
    store(mixed + i, sum);
  }
  for (; i < d; ++i) {
    for (int r = 0; r < R; ++r) mixed[i] = std::fma(rows[r * stride + i], weights[r], mixed[i]);
  }
}

// Running softmax over `n` rows: highest score, sum of exponentials, and the weighted sum of rows [d] in `mixed`.
template <Ahead ahead>
void attend_rows(const float* q, const float* rows, int64_t stride, int64_t n, int64_t d, float& highest, float& sum,
                 float* mixed) {
  float scores[kGroup];
  highest = -INFINITY;
  sum = 0.0f;
  std::fill(mixed, mixed + d, 0.0f);
  for (int64_t start = 0; start < n; start += kGroup) {
    const int64_t size = std::min(kGroup, n - start);
    const float* group = rows + start * stride;
    int64_t r = 0;
    for (; r + kTogether <= size; r += kTogether) {
      dot_block<kTogether, 1, ahead>(q, d, group + r * stride, stride, d, scores + r, d);
    }
    for (; r < size; ++r) dot_block<1, 1, Ahead::kNot>(q, d, group + r * stride, stride, d, scores + r, d);
    std::fill(scores + size, scores + kGroup, -INFINITY);
    float top = highest;
    for (r = 0; r < size; ++r) top = scores[r] > top ? scores[r] : top;
    if (top > highest) {
      const float shrink = start == 0 ? 0.0f : exp_approx(highest - top);
      sum *= shrink;
      for (int64_t i = 0; i < d; ++i) mixed[i] *= shrink;
      highest = top;
    }
    for (r = 0; r < kGroup; ++r) scores[r] = exp_approx(scores[r] - highest);
    for (r = 0; r < size; ++r) sum += scores[r];
    for (r = 0; r + 8 <= size; r += 8) add_rows<8>(group + r * stride, stride, scores + r, d, mixed);
    for (; r < size; ++r) add_rows<1>(group + r * stride, stride, scores + r, d, mixed);
  }
}

// Rows of one lane's memory.
struct Part {
  int64_t lane;
  const float* rows;
  int64_t n, stride;
};

void find_parts(const Memory& memory, int64_t B, int64_t D, std::vector<Part>& parts) {
  parts.clear();
  int64_t lane = 0;
  size_t first = 0;
  for (const int64_t count : memory.counts) {
    const int64_t lanes = memory.blocks[first].size(0);
    for (int64_t own = 0; own < lanes; ++own) {
      for (size_t number = first; number < first + count; ++number) {
        const auto& m = memory.blocks[number];
        const int64_t start = memory.spans[2 * number], stop = memory.spans[2 * number + 1];
        TORCH_CHECK(m.dim() == 3 && m.stride(2) == 1 && m.size(0) == lanes && lane + lanes <= B && m.size(2) == D &&
                        m.scalar_type() == at::kFloat,
                    "step: blocks must be [B, n, D] in float32, their columns together");
        TORCH_CHECK(0 <= start && start <= stop && stop <= m.size(1), "step: spans must lie within their blocks");
        const float* from = m.const_data_ptr<float>() + own * m.stride(0) + start * m.stride(1);
        for (int64_t i = 0; i < stop - start; i += kPart) {
          parts.push_back({lane + own, from + i * m.stride(1), std::min(kPart, stop - start - i), m.stride(1)});
        }
      }
    }
    lane += lanes;
    first += count;
  }
  TORCH_CHECK(lane == B && first == memory.blocks.size(), "step: blocks of memory must be of each lane once");
}

}  // namespace

// q [B, D] over the memory, `heads` heads of contiguous columns -> out [B, D]; no dropout. Tasks are parts of fixed size,
// joined in order: the result does not depend on the number of threads.
void attend_step(const float* q, const Memory& memory, int64_t B, int64_t D, int64_t heads, float* out) {
  static thread_local std::vector<Part> found;  // kept for the next step, as is the room for the tasks' results
  static thread_local std::vector<float> room;
  find_parts(memory, B, D, found);
  const Part* parts = found.data();
  const int64_t d = D / heads, count = static_cast<int64_t>(found.size());
  TORCH_CHECK(count > 0, "step: no rows to attend to");
  room.resize(std::max<size_t>(room.size(), heads * count * (d + 2)));
  float *highest = room.data(), *sum = highest + heads * count, *mixed = sum + heads * count;
  at::parallel_for(0, heads * count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t head = item / count;
      const Part& part = parts[item % count];
      const auto attend = D <= kCached ? attend_rows<Ahead::kNear> : attend_rows<Ahead::kFar>;
      attend(q + part.lane * D + head * d, part.rows + head * d, part.stride, part.n, d, highest[item], sum[item],
             mixed + item * d);
    }
  });
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t first = 0; first < count;) {  // join the parts of a lane by their log-sum-exp
      int64_t last = first;
      while (last < count && parts[last].lane == parts[first].lane) ++last;
      const float *top = highest + head * count, *own = sum + head * count;
      const float highest_of_all = *std::max_element(top + first, top + last);
      float* to = out + parts[first].lane * D + head * d;
      float total = 0.0f;
      std::fill(to, to + d, 0.0f);
      for (int64_t part = first; part < last; ++part) {
        const float share = exp_approx(top[part] - highest_of_all);
        const float* mix = mixed + (head * count + part) * d;
        total += share * own[part];
        for (int64_t i = 0; i < d; ++i) to[i] += share * mix[i];
      }
      for (int64_t i = 0; i < d; ++i) to[i] /= total;
      first = last;
    }
  }
}

}  // namespace sharnn
