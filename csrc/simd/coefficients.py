"""Print simd/coefficients.h: near-minimax polynomials (mpmath.chebyfit) for the vector exp, expm1 and log.

exp:  e^r = 1 + r + r^2 E(r),                      |r| <= ln(2)/2
log:  log m = 2 s + s z L(z),  s = (m-1)/(m+1), z = s^2,  1/sqrt(2) <= m <= sqrt(2)

Run it as `python csrc/simd/coefficients.py > csrc/simd/coefficients.h`.
"""

import struct

import mpmath

mpmath.mp.dps = 60
HALF_LN2 = mpmath.log(2) / 2
LARGEST_Z = ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2
# name of the C++ type -> (terms of E, terms of L, bits kept in the high part of ln 2)
PRECISIONS = {"float": (5, 4, 12), "double": (11, 8, 32)}


def exp_remainder(r: mpmath.mpf) -> mpmath.mpf:
    if abs(r) < mpmath.mpf(10) ** -8:
        return mpmath.mpf(1) / 2 + r / 6 + r * r / 24
    return (mpmath.exp(r) - 1 - r) / r**2


def log_remainder(z: mpmath.mpf) -> mpmath.mpf:
    if z < mpmath.mpf(10) ** -12:
        return mpmath.mpf(2) / 3 + 2 * z / 5
    s = mpmath.sqrt(z)
    return (mpmath.log((1 + s) / (1 - s)) - 2 * s) / (s * z)


def rounded(value: mpmath.mpf, ctype: str) -> str:
    if ctype == "float":
        return f"{struct.unpack('f', struct.pack('f', float(value)))[0].hex()}f"
    return float(value).hex()


def split_ln2(bits: int) -> tuple[mpmath.mpf, mpmath.mpf]:
    """ln 2 as high + low, the high part short enough that an exponent times it is exact."""
    scale = mpmath.mpf(2) ** bits
    high = mpmath.floor(mpmath.log(2) * scale) / scale
    return high, mpmath.log(2) - high


def row(name: str, values: list[mpmath.mpf], ctype: str) -> str:
    listed = ", ".join(rounded(value, ctype) for value in values)
    return f"  static constexpr {ctype} {name}[{len(values)}] = {{{listed}}};"


def coefficients(ctype: str) -> list[str]:
    exp_terms, log_terms, bits = PRECISIONS[ctype]
    margin = mpmath.mpf("1.001")
    high, low = split_ln2(bits)
    return [
        f"template <> struct Coefficients<{ctype}> {{",
        f"  static constexpr {ctype} ln2_high = {rounded(high, ctype)}, ln2_low = {rounded(low, ctype)};",
        f"  static constexpr {ctype} log2_e = {rounded(1 / mpmath.log(2), ctype)};",
        row("exp", mpmath.chebyfit(exp_remainder, [-HALF_LN2 * margin, HALF_LN2 * margin], exp_terms), ctype),
        row("log", mpmath.chebyfit(log_remainder, [0, LARGEST_Z * margin], log_terms), ctype),
        "};",
    ]


def main() -> None:
    lines = [
        "// Written by coefficients.py (highest power first); do not edit.",
        "#pragma once",
        "",
        "namespace elman::ELMAN_ISA_NAMESPACE {",
        "",
        "template <class T> struct Coefficients;",
        "",
        *coefficients("float"),
        "",
        *coefficients("double"),
        "",
        "}  // namespace elman::ELMAN_ISA_NAMESPACE",
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
