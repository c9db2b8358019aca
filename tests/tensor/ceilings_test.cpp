// The ceilings: what is measured and what is not, under a clock that lets every measurement end after three rounds.
#include "tensor/ceilings.hpp"

#include <algorithm>
#include <atomic>

#include <gtest/gtest.h>

#include "tensor/amx_emulator.hpp"
#include "tensor/peak_loops.hpp"

namespace tidemill::tensor {
namespace {

// A second passes between any two looks.
class LeapingClock final : public base::Clock {
 public:
  base::SteadyTime now() const override { return base::SteadyTime(std::chrono::seconds(++looks_)); }
  base::WallTime wall_now() const override { return base::WallTime(std::chrono::seconds(++looks_)); }

 private:
  mutable std::atomic<int64_t> looks_{0};
};

TEST(Ceilings, EveryInstructionSetHasThem) {
  const LeapingClock clock;
  for (const Isa isa : available_isas()) {
    const auto ceilings = measure_ceilings(isa, 1, clock);
    ASSERT_TRUE(ceilings) << ceilings.error().to_string();
    EXPECT_GT(ceilings->read_bytes_per_s, 0);
    EXPECT_GT(ceilings->int8_ops_per_s, 0);
    EXPECT_GT(ceilings->float_ops_per_s, 0);
    EXPECT_TRUE(peaks()[static_cast<size_t>(int8_peak(isa))].present) << to_string(isa);
    EXPECT_TRUE(peaks()[static_cast<size_t>(float_peak(isa))].present) << to_string(isa);
  }
}

TEST(Ceilings, MeasureWhatIsPresentAndNothingElse) {
  const LeapingClock clock;
  auto meter = CeilingMeter::create(2, clock);
  ASSERT_TRUE(meter) << meter.error().to_string();
  for (size_t i = 0; i < peaks().size(); ++i) {
    const PeakInfo& info = peaks()[i];
    EXPECT_EQ(static_cast<size_t>(info.peak), i) << info.name;
    const double measured = meter->operations(info.peak);
    if (!info.present) {
      EXPECT_EQ(measured, 0) << info.name;
      continue;
    }
    // A round takes one second by this clock, so the rate is the work: of two threads, in eight parts each.
    EXPECT_DOUBLE_EQ(measured, info.operations * static_cast<double>(info.rounds) * 16) << info.name;
  }
  EXPECT_GT(meter->read(), 0);
  EXPECT_GT(meter->clock_rate(), 0);
  EXPECT_GT(meter->region(), 0);
}

TEST(Ceilings, WhatIsReadIsLargerThanAllCachesTogether) {
  const auto mib_to_read = [](size_t cache_mib, size_t free_mib) {
    return bytes_to_read(cache_mib << 20, free_mib << 20) >> 20;
  };
  EXPECT_EQ(mib_to_read(0, 100'000), 256);
  EXPECT_EQ(mib_to_read(32, 100'000), 256);
  EXPECT_EQ(mib_to_read(8 * 32, 100'000), 1024) << "of a processor made of eight parts";
  EXPECT_EQ(mib_to_read(8 * 32, 1001), 496) << "half of what is free, in whole rounds";
  EXPECT_EQ(mib_to_read(32, 3), 16);
}

TEST(Ceilings, ATeamOfOneHasNoRegions) {
  const LeapingClock clock;
  auto meter = CeilingMeter::create(1, clock);
  ASSERT_TRUE(meter) << meter.error().to_string();
  EXPECT_EQ(meter->region(), 0);
}

// Elsewhere the loop runs on machines with AMX alone.
TEST(Ceilings, TheLoopOnTilesIsValid) {
  const test::AmxEmulator emulator;
  const long before = test::AmxEmulator::instructions();
  peak_amx_int8(3);
  // Configured once and released, four tiles zeroed and four loaded, and four products a round.
  const long emulated = test::AmxEmulator::instructions() - before;
  EXPECT_EQ(emulated, cpu_features().amx_int8 ? 0 : 1 + 4 + 4 + 3 * kPeakTiles + 1);
}

TEST(CpuFeatures, AreConsistent) {
  const CpuFeatures& cpu = cpu_features();
  EXPECT_TRUE(cpu.avx512 || !(cpu.avx512_vnni || cpu.avx512_bf16 || cpu.avx512_fp16));
  const auto isas = available_isas();
  const auto offered = [&](Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  EXPECT_EQ(offered(Isa::avx2), cpu.avx2);
  EXPECT_EQ(offered(Isa::avx512_vnni), cpu.avx2 && cpu.avx512_vnni);
  EXPECT_EQ(offered(Isa::avx512_bf16), cpu.avx2 && cpu.avx512_vnni && cpu.avx512_bf16);
  EXPECT_TRUE(cpu.avx512_bf16 || !cpu.fast_bf16);
  EXPECT_EQ(isas.back() == Isa::avx512_bf16, offered(Isa::avx512_bf16) && cpu.fast_bf16 && !offered(Isa::amx));
  EXPECT_EQ(offered(Isa::amx), cpu.avx2 && cpu.avx512_vnni && cpu.amx_int8 && cpu.amx_bf16);
}

}  // namespace
}  // namespace tidemill::tensor
