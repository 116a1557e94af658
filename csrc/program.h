// A loop kernel's program: the code that Python gave, checked and turned into instructions, and cut into stages.
#pragma once

#include <string>
#include <vector>

#include "plan.h"

namespace elman {

enum class Space : int { reg, in, ctx, vec, out, carry, constant };
inline constexpr int space_count = 7;
inline constexpr const char* space_names[space_count] = {"REG", "IN", "CTX", "VEC", "OUT", "CARRY", "CONST"};

struct WeightShape {
  Int K, N;
};

// What Python gives. Operands in `code` are (space, index, offset, strides...); see reader.cpp for each form.
struct Spec {
  std::vector<std::vector<Int>> widths;  // elements a row, of REG, IN, CTX, VEC, OUT, CARRY
  std::vector<WeightShape> weights;
  std::vector<std::vector<Int>> code;
  std::vector<double> constants;
  std::vector<std::vector<Int>> commits;  // (carry, space, index, offset)
};

// Arrays of all spaces in one numbering: REG first, then IN, CTX, VEC, OUT, CARRY, and one array of all constants.
struct ArrayTable {
  std::vector<Int> width;
  int first[space_count + 1];

  int of(Space space, Int index) const { return first[int(space)] + int(index); }
  int count(Space space) const { return first[int(space) + 1] - first[int(space)]; }
  Space space(int array) const;
  std::string name(int array) const;
};

// Where a register lives: in the block scratch of its only row stage, or in the thread's [rows, width] memory.
struct RegisterPlace {
  bool in_block = false;
  int stage = -1;   // the first stage that touches it; -1: none does
  Int offset = 0;   // elements a row, before it
};

struct Program {
  ArrayTable arrays;
  std::vector<WeightShape> weights;
  std::vector<double> constants;
  std::vector<Instruction> code;  // the commits are its last instructions
  std::vector<Link> links;        // those of the last commits that copy a whole row of an OUT array to a carry
  std::vector<Stage> stages;
  std::vector<RegisterPlace> registers;
  std::vector<Int> block_width;  // a stage's block scratch, elements a row
  Int thread_width = 0;          // elements a row of registers that cross stages
};

// Both throw std::invalid_argument, naming the instruction, what was found and what is expected.
Program parse(const Spec& spec);
void schedule(Program& program, Int element_size);

std::string describe(const Program& program);

}  // namespace elman
