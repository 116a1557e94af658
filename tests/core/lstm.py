"""LSTM loops written for the core by hand, forward and backward: what the engine's lowering should come to.

i, f, g, o = sigma(a_i), sigma(a_f), tanh(a_g), sigma(a_o),   a_t = x_t + h_{t-1} U^T  (the x part is given)
c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)
"""

from __future__ import annotations

from tests.core.assembly import CARRY, IN, OUT, REG, VEC, Assembly


def forward(H: int, *, keep: bool = True) -> Assembly:
    """IN x (4H); OUT h (H), and if `keep` the gates (4H), c_{t-1} (H), tanh c_t (H); CARRY h, c; weight U^T (H, 4H)."""
    asm = Assembly()
    x = asm.array(IN, 4 * H)
    out = asm.array(OUT, H)
    gates, before, tanh_c = (asm.array(OUT if keep else REG, n) for n in (4 * H, H, H))
    h, c = asm.array(CARRY, H), asm.array(CARRY, H)
    a = asm.gemm(asm.weight(H, 4 * H), h, init=x)
    asm.apply("sigmoid", a[: 2 * H], to=gates[: 2 * H])
    asm.apply("tanh", a[2 * H : 3 * H], to=gates[2 * H : 3 * H])
    asm.apply("sigmoid", a[3 * H :], to=gates[3 * H :])
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    if keep:
        asm.apply("copy", c, to=before)
    c_new = asm.apply("fma", f, c, asm.apply("mul", i, g))
    asm.apply("tanh", c_new, to=tanh_c)
    asm.apply("mul", o, tanh_c, to=out)
    asm.commit(h, out)
    asm.commit(c, c_new)
    return asm


def backward(H: int) -> Assembly:
    """IN dy (H), gates (4H), c_{t-1} (H), tanh c_t (H); OUT da (4H); CARRY dh, dc; weight U (4H, H). Run in reverse."""
    asm = Assembly()
    dy, gates, before, tanh_c = (asm.array(IN, n) for n in (H, 4 * H, H, H))
    da = asm.array(OUT, 4 * H)
    dh_next, dc_next = asm.array(CARRY, H), asm.array(CARRY, H)
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    dh = asm.apply("add", dy, dh_next)
    asm.apply("sigmoid_backward", asm.apply("mul", dh, tanh_c), o, to=da[3 * H :])
    dc = asm.apply("add", dc_next, asm.apply("tanh_backward", asm.apply("mul", dh, o), tanh_c))
    asm.apply("sigmoid_backward", asm.apply("mul", dc, g), i, to=da[:H])
    asm.apply("sigmoid_backward", asm.apply("mul", dc, before), f, to=da[H : 2 * H])
    asm.apply("tanh_backward", asm.apply("mul", dc, i), g, to=da[2 * H : 3 * H])
    dc_before = asm.apply("mul", dc, f)
    dh_before = asm.gemm(asm.weight(4 * H, H), da)
    asm.commit(dh_next, dh_before)
    asm.commit(dc_next, dc_before)
    return asm


def gru_forward(H: int) -> Assembly:
    """torch's GRU. IN x (3H); VEC b_hn (H); OUT h (H); CARRY h; weight U^T (H, 3H).

    r, z = sigma(a_r), sigma(a_z),   n = tanh(x_n + r (U_n h + b_hn)),   h_t = n + z (h_{t-1} - n)
    """
    asm = Assembly()
    x, bias, out, h = asm.array(IN, 3 * H), asm.array(VEC, H), asm.array(OUT, H), asm.array(CARRY, H)
    u = asm.gemm(asm.weight(H, 3 * H), h)
    rz = asm.apply("sigmoid", asm.apply("add", u[: 2 * H], x[: 2 * H]))
    n = asm.apply("tanh", asm.apply("fma", rz[:H], asm.apply("add", u[2 * H :], bias), x[2 * H :]))
    asm.apply("fma", rz[H:], asm.apply("sub", h, n), n, to=out)
    asm.commit(h, out)
    return asm
