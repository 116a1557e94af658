"""A walk over the instructions of a WebAssembly module, to give some of them other numbers.

Fused multiply-adds got their numbers when relaxed SIMD became a standard. Clang 14 and Binaryen 108, of which Debian's
Emscripten is made, write those from before: same operands, same order, same length, another number. Browsers know
the standard's alone.
"""

from __future__ import annotations

OLD_TO_STANDARD = {
    0xAF: 0x105,
    0xB0: 0x106,
    0xCF: 0x107,
    0xD0: 0x108,
}  # f32x4 and f64x2: a b + c, and c - a b

_CODE_SECTION = 10
_SIMD, _MORE = 0xFD, 0xFC
# How many LEB128 numbers follow an instruction; those that are not here have none.
_NUMBERS = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x06), 1),  # block, loop, if, try
    **dict.fromkeys((0x07, 0x08, 0x09, 0x18), 1),  # catch, throw, rethrow, delegate
    **dict.fromkeys((0x0C, 0x0D, 0x10), 1),  # br, br_if, call
    0x11: 2,  # call_indirect
    **dict.fromkeys(range(0x20, 0x27), 1),  # locals, globals, tables
    **dict.fromkeys(range(0x28, 0x3F), 2),  # loads and stores
    **dict.fromkeys((0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2), 1),  # memory, whole constants, references
}
_BYTES = {0x43: 4, 0x44: 8}  # constants
_NUMBERS_OF_MORE = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
_NUMBERS_OF_SIMD = dict.fromkeys((*range(12), *range(84, 94)), 2)
_BYTES_OF_SIMD = {12: 16, 13: 16, **dict.fromkeys(range(21, 35), 1), **dict.fromkeys(range(84, 92), 1)}


class _Walk:
    def __init__(self, module: bytes) -> None:
        self.module, self.at = bytearray(module), 8

    def number(self) -> int:
        """The LEB128 number here; behind it afterwards. (Signed ones are skipped alike.)"""
        found = shift = 0
        while True:
            byte = self.module[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return found

    def numbers(self, count: int) -> None:
        for _ in range(count):
            self.number()

    def replace(self, begin: int, number: int) -> None:
        length = self.at - begin
        for place in range(length):
            more = 0x80 if place < length - 1 else 0
            self.module[begin + place] = number >> 7 * place & 0x7F | more
        if number >> 7 * length:
            raise ValueError(f"at byte {begin}: there is no room for the number {number:#x}")

    def simd(self, given: dict[int, int]) -> int:
        begin = self.at
        kind = self.number()
        replaced = kind in given
        if replaced:
            self.replace(begin, given[kind])
        self.numbers(_NUMBERS_OF_SIMD.get(kind, 0))
        self.at += _BYTES_OF_SIMD.get(kind, 0)
        return replaced

    def instruction(self, given: dict[int, int]) -> int:
        """Behind the next instruction; how many were given another number: 0 or 1."""
        code = self.module[self.at]
        self.at += 1
        if code == _SIMD:
            return self.simd(given)
        if code == _MORE:
            self.numbers(_NUMBERS_OF_MORE.get(self.number(), 0))
        elif code == 0x0E:  # br_table
            self.numbers(self.number() + 1)
        elif code == 0x1C:  # select with types
            self.numbers(self.number())
        else:
            self.numbers(_NUMBERS.get(code, 0))
            self.at += _BYTES.get(code, 0)
        return 0

    def function(self, given: dict[int, int]) -> int:
        size = self.number()
        end = self.at + size
        self.numbers(2 * self.number())  # locals: how many, and of which type
        replaced = 0
        while self.at < end:
            replaced += self.instruction(given)
        if self.at != end:
            raise ValueError(f"at byte {end}: a function ends within an instruction")
        return replaced


def renumbered(module: bytes, given: dict[int, int] | None = None) -> tuple[bytes, int]:
    """The module with SIMD instructions of new numbers, and how many there were. ValueError where it cannot be read."""
    walk = _Walk(module)
    replaced = 0
    while walk.at < len(module):
        section = walk.number()
        size = walk.number()
        end = walk.at + size
        if section == _CODE_SECTION:
            replaced += sum(walk.function(given or OLD_TO_STANDARD) for _ in range(walk.number()))
        walk.at = end
    return bytes(walk.module), replaced
