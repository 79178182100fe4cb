// What the CPU kernels share: an exponential that compilers vectorise, and dropout masks that need no memory.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace sharnn {

inline bool has_shape(const at::Tensor& x, std::initializer_list<int64_t> shape) {
  return x.sizes().equals(at::IntArrayRef(shape));
}

// e^x to 2 units in the last place, without a branch or a call, so that loops over it become vector code.
// Arguments are clamped to [-87, 88], whose results are far below and above all that is added to them; NaN stays NaN.
inline float exp_approx(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  const float n = std::nearbyint(x * 1.44269504088896341f);
  float r = x - n * 0.693359375f;  // ln 2 in two parts
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exp_approx(-x)); }

// Dropout by counter: whether element i of a row is kept is a function of (seed, row, i) alone, so the backward pass
// draws the same mask again instead of storing it. A decision takes 16 bits: the rate is exact to 2^-17.
struct Dropout {
  uint64_t seed;
  uint32_t threshold;  // draws below it are dropped
  float scale;         // 1 / P(kept)

  Dropout(double rate, int64_t seed_) : seed(static_cast<uint64_t>(seed_)) {
    const double levels = std::min(std::nearbyint(rate * 65536.0), 65535.0);
    threshold = static_cast<uint32_t>(levels);
    scale = static_cast<float>(65536.0 / (65536.0 - levels));
  }

  bool active() const { return threshold > 0; }

  // Factors of the elements [start, start + n) of a row: `scale` where kept, 0 where dropped.
  void factors(float* out, int64_t row, int64_t start, int64_t n) const {
    uint64_t z = seed + static_cast<uint64_t>(row + 1) * 0x9E3779B97F4A7C15ull;  // splitmix64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    const uint32_t low = static_cast<uint32_t>(z), high = static_cast<uint32_t>(z >> 32);
    float ragged[16];
    for (int64_t i = 0; i < n;) {
      const int64_t within = (start + i) % 16, size = std::min(16 - within, n - i);
      const auto word = static_cast<uint32_t>((start + i - within) / 2);
      if (size == 16) {
        group(out + i, word, low, high);
      } else {
        group(ragged, word, low, high);
        std::copy(ragged + within, ragged + within + size, out + i);
      }
      i += size;
    }
  }

 private:
  typedef uint32_t Words __attribute__((vector_size(32)));

  // 8 words of 32 bits decide 16 elements: their low halves the first 8, their high halves the others.
  void group(float* out, uint32_t word, uint32_t low, uint32_t high) const {
    const Words eight = {0, 1, 2, 3, 4, 5, 6, 7};
    Words x = (eight + word) * 0x9E3779B1u + low;  // a 32-bit finaliser with a key on each side of its first product
    x ^= x >> 16;
    x *= 0x7FEB352Du;
    x += high;
    x ^= x >> 15;
    x *= 0x846CA68Bu;
    x ^= x >> 16;
    uint32_t bits;
    std::memcpy(&bits, &scale, sizeof(bits));
    const Words first = (Words)((x & 0xFFFFu) >= threshold) & bits, second = (Words)((x >> 16) >= threshold) & bits;
    std::memcpy(out, &first, sizeof(first));
    std::memcpy(out + 8, &second, sizeof(second));
  }
};

}  // namespace sharnn
