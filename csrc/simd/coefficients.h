// Written by coefficients.py (highest power first); do not edit.
#pragma once

namespace elman::ELMAN_ISA_NAMESPACE {

template <class T> struct Coefficients;

template <> struct Coefficients<float> {
  static constexpr float ln2_high = 0x1.62e0000000000p-1f, ln2_low = 0x1.0bfbe80000000p-15f;
  static constexpr float log2_e = 0x1.7154760000000p+0f;
  static constexpr float exp[5] = {0x1.6d117c0000000p-10f, 0x1.120be20000000p-7f, 0x1.5555180000000p-5f, 0x1.5554dc0000000p-3f, 0x1.0000000000000p-1f};
  static constexpr float log[4] = {0x1.ddd4da0000000p-3f, 0x1.245c280000000p-2f, 0x1.9999ec0000000p-2f, 0x1.5555560000000p-1f};
};

template <> struct Coefficients<double> {
  static constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
  static constexpr double log2_e = 0x1.71547652b82fep+0;
  static constexpr double exp[11] = {0x1.1f7340dbc337ep-29, 0x1.af4e554377204p-26, 0x1.27e4db46cddd1p-22, 0x1.71de01fdbf9cap-19, 0x1.a01a01a6e1e2ap-16, 0x1.a01a01abf85abp-13, 0x1.6c16c16c162c3p-10, 0x1.11111111100bep-7, 0x1.5555555555556p-5, 0x1.5555555555557p-3, 0x1.0000000000000p-1};
  static constexpr double log[8] = {0x1.0c0aff044a970p-3, 0x1.0fbde0f4ad17bp-3, 0x1.3b1c3c1c81c8fp-3, 0x1.745cf8e4bba1bp-3, 0x1.c71c7201a55d7p-3, 0x1.2492492476a1ap-2, 0x1.9999999999a39p-2, 0x1.5555555555555p-1};
};

}  // namespace elman::ELMAN_ISA_NAMESPACE
