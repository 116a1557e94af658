// Cuts a program into stages and gives every register its place.
#include <algorithm>

#include "program.h"

namespace elman {

namespace {

// Scratch registers of one block of rows, in bytes: half a first-level cache of 32 KiB; the rest is for the operands.
constexpr Int block_bytes = 16 * 1024;
constexpr Int most_block_rows = 256;

std::vector<Stage> cut(const std::vector<Instruction>& code) {
  std::vector<Stage> stages;
  for (int i = 0; i < int(code.size()); ++i) {
    const bool product = code[i].op == Op::gemm;
    if (product || stages.empty() || stages.back().product) stages.push_back({i, i, product, 0});
    stages.back().end = i + 1;
  }
  return stages;
}

struct Life {
  int array;
  int first = -1, last = -1;  // instructions
  int first_stage = -1, last_stage = -1;
  bool in_block = false;

  // A register that crosses stages lives in whole stages: its rows are strewn over memory that another of another width
  // would share, and within a stage one block of rows, or one thread, may be ahead of the next.
  Life in_stages() const { return {array, first_stage, last_stage, first_stage, last_stage, in_block}; }
};

std::vector<Life> lives_of(const Program& program) {
  std::vector<Life> lives(program.arrays.width.size());
  for (int s = 0; s < int(program.stages.size()); ++s)
    for (int i = program.stages[s].begin; i < program.stages[s].end; ++i)
      for (int j = 0; j < program.code[i].operands; ++j) {
        const int array = program.code[i].at[j].array;
        Life& life = lives[array];
        if (life.first < 0) life = {array, i, i, s, s, !program.stages[s].product};
        life.last = i;
        life.last_stage = s;
        if (s != life.first_stage) life.in_block = false;
      }
  std::erase_if(lives, [&](const Life& life) {
    return life.first < 0 || program.arrays.space(life.array) != Space::reg;
  });
  return lives;
}

// First fit: registers whose lives do not meet may share memory. Returns the elements a row that all of them take.
Int place(const Program& program, const std::vector<Life>& lives, std::vector<RegisterPlace>& places) {
  Int total = 0;
  std::vector<const Life*> placed;
  for (const Life& life : lives) {
    const Int width = program.arrays.width[life.array];
    std::vector<std::pair<Int, Int>> taken;  // [begin, end) of those alive at the same time
    for (const Life* other : placed)
      if (other->first <= life.last && life.first <= other->last)
        taken.push_back({places[other->array].offset, places[other->array].offset + program.arrays.width[other->array]});
    std::sort(taken.begin(), taken.end());
    Int offset = 0;
    for (const auto& [begin, end] : taken) {
      if (offset + width <= begin) break;
      offset = std::max(offset, end);
    }
    places[life.array] = {life.in_block, life.first_stage, offset};
    placed.push_back(&life);
    total = std::max(total, offset + width);
  }
  return total;
}

}  // namespace

void schedule(Program& program, Int element_size) {
  program.stages = cut(program.code);
  program.registers.assign(program.arrays.width.size(), {});
  const std::vector<Life> lives = lives_of(program);
  std::vector<Life> crossing;
  for (const Life& life : lives)
    if (!life.in_block) crossing.push_back(life.in_stages());
  program.thread_width = place(program, crossing, program.registers);
  for (int s = 0; s < int(program.stages.size()); ++s) {
    std::vector<Life> own;
    std::copy_if(lives.begin(), lives.end(), std::back_inserter(own),
                 [&](const Life& life) { return life.in_block && life.first_stage == s; });
    const Int width = place(program, own, program.registers);
    program.block_width.push_back(width);
    const Int fitting = block_bytes / (std::max<Int>(width, 1) * element_size);
    program.stages[s].block_rows = std::clamp<Int>(fitting, 1, most_block_rows);
  }
}

}  // namespace elman
