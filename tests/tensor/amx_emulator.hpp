// Runs AMX instructions on a machine that has none: while an AmxEmulator lives, the invalid-opcode signals that they
// raise in this thread are answered by doing what the instruction would have done. So the tests run the machine code
// that AMX machines run, operand order and encoding included.
//
// Known: LDTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILESTORED, TDPBSSD, TDPBSUD, TDPBUSD, TDPBF16PS, as the Intel
// SDM (volume 2) defines them, for palette 1. What the SDM says faults (a tile that is not configured, shapes that do
// not match) is counted as a fault and ends the program with a message, as any other invalid instruction does.
//
// On a machine with AMX the instructions raise no signal, and the emulator has nothing to do.
#pragma once

#include <csignal>

namespace tidemill::tensor::test {

class AmxEmulator {
 public:
  AmxEmulator();
  ~AmxEmulator();
  AmxEmulator(const AmxEmulator&) = delete;
  AmxEmulator& operator=(const AmxEmulator&) = delete;

  // Instructions emulated so far.
  static long instructions();

 private:
  struct sigaction before_ {};
};

}  // namespace tidemill::tensor::test
