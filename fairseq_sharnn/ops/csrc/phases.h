// Where a kernel's time goes. A kernel takes a clock as a template argument and marks the end of each phase. The operators
// of training and evaluation take NoClock, which compiles to nothing; benchmarks/attention_phases.py takes PhaseClock.
#pragma once

#include <chrono>
#include <cstdint>

namespace sharnn {

// The names stand in the same order in benchmarks/attention_phases.py.
enum Phase { kPacking, kProducts, kMasks, kSoftmax, kExponentials, kRest, kPhases };

struct NoClock {
  NoClock(double*, int64_t) {}
  void mark(Phase) {}
};

// Adds the time since the last mark to a phase: row `item` of seconds [items, kPhases].
class PhaseClock {
 public:
  PhaseClock(double* seconds, int64_t item) : seconds_(seconds + item * kPhases), last_(Clock::now()) {}

  void mark(Phase phase) {
    const auto now = Clock::now();
    seconds_[phase] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  typedef std::chrono::steady_clock Clock;
  double* seconds_;
  Clock::time_point last_;
};

}  // namespace sharnn
