#include "program.h"

#include <sstream>

#include "checker.h"
#include "reader.h"

namespace elman {

Space ArrayTable::space(int array) const {
  for (int space = 0; space < space_count; ++space)
    if (array < first[space + 1]) return Space(space);
  return Space::reg;  // the hidden registers of the commits
}

std::string ArrayTable::name(int array) const {
  if (array >= first[space_count]) return "COMMIT " + text(array - first[space_count]);
  const int space = int(this->space(array));
  return std::string(space_names[space]) + " " + text(array - first[space]);
}

namespace {

ArrayTable table_of(const Spec& spec) {
  constexpr int with_widths = space_count - 1;
  if (spec.widths.size() != with_widths)
    refuse("widths: expected 6 lists (REG, IN, CTX, VEC, OUT, CARRY), got " + text(Int(spec.widths.size())));
  ArrayTable table;
  for (int space = 0; space < with_widths; ++space) {
    table.first[space] = int(table.width.size());
    for (Int width : spec.widths[space]) {
      if (width < 1 || width > largest)
        refuse(std::string("widths: ") + space_names[space] + " has the width " + text(width) + ", expected 1 or more");
      table.width.push_back(width);
    }
  }
  table.first[with_widths] = int(table.width.size());
  table.width.push_back(Int(spec.constants.size()));
  table.first[space_count] = int(table.width.size());
  return table;
}

void check_weights(const std::vector<WeightShape>& weights) {
  for (const WeightShape& shape : weights)
    if (shape.K < 1 || shape.N < 1 || shape.K > largest || shape.N > largest)
      refuse("nweights: (K, N) = (" + text(shape.K) + ", " + text(shape.N) + "), expected both 1 or more");
}

std::string title(std::size_t index, const std::vector<Int>& words) {
  std::string name = "instruction " + std::to_string(index);
  if (!words.empty() && words[0] >= 0 && words[0] < op_count) name += std::string(" (") + op_table[words[0]].name + ")";
  return name;
}

Instruction copy_of(Int width, Operand dst, Operand src) {
  Instruction in{};
  in.op = Op::copy;
  in.weight = -1;
  in.operands = in.dims = 2;
  in.size[0] = 1;
  in.size[1] = width;
  in.at[0] = dst;
  in.at[1] = src;
  in.at[0].stride[1] = in.at[1].stride[1] = 1;
  return in;
}

// A commit copies into its carry. Where the source is a carry too, it first goes through a hidden register, so that
// all sources are read before any carry is replaced.
void append_commits(const Spec& spec, Program& program, Checker& checker) {
  std::vector<Instruction> first, last, whole;
  std::vector<bool> committed(program.arrays.width.size());
  for (std::size_t i = 0; i < spec.commits.size(); ++i) {
    Reader reader(spec.commits[i], program.arrays, "commit " + std::to_string(i));
    const Int carry = reader.next("carry");
    if (carry < 0 || carry >= program.arrays.count(Space::carry))
      reader.fail("replaces CARRY " + text(carry) + " of " + text(program.arrays.count(Space::carry)));
    const int array = program.arrays.of(Space::carry, carry);
    if (committed[array]) reader.fail("replaces CARRY " + text(carry) + " a second time");
    committed[array] = true;
    Operand source = reader.place("source");
    reader.finish();
    const Int width = program.arrays.width[array];
    if (program.arrays.space(source.array) == Space::carry) {
      const Operand hidden{int(program.arrays.width.size()) + int(first.size()), 0, {}};
      first.push_back(copy_of(width, hidden, source));
      source = hidden;
    }
    const bool links = program.arrays.space(source.array) == Space::out && program.arrays.width[source.array] == width;
    (links ? whole : last).push_back(copy_of(width, {array, 0, {}}, source));
    if (links) program.links.push_back({array, source.array});
  }
  for (const Instruction& in : first) program.arrays.width.push_back(in.size[1]);
  first.insert(first.end(), last.begin(), last.end());
  first.insert(first.end(), whole.begin(), whole.end());
  for (const Instruction& in : first) {
    checker.check_commit(in, Reader({}, program.arrays, "commit to " + program.arrays.name(in.at[0].array)));
    program.code.push_back(in);
  }
}

}  // namespace

Program parse(const Spec& spec) {
  Program program;
  program.arrays = table_of(spec);
  check_weights(spec.weights);
  program.weights = spec.weights;
  program.constants = spec.constants;
  Checker checker(program.arrays);
  for (std::size_t i = 0; i < spec.code.size(); ++i) {
    Reader reader(spec.code[i], program.arrays, title(i, spec.code[i]));
    program.code.push_back(read_instruction(reader, program.weights));
    checker.check(program.code.back(), reader);
  }
  append_commits(spec, program, checker);
  return program;
}

std::string describe(const Program& program) {
  std::ostringstream out;
  for (std::size_t s = 0; s < program.stages.size(); ++s) {
    const Stage& stage = program.stages[s];
    out << "stage " << s << (stage.product ? ": product" : ": rows, blocks of " + text(stage.block_rows)) << "\n";
    for (int i = stage.begin; i < stage.end; ++i) {
      const Instruction& in = program.code[i];
      out << "  " << op_table[int(in.op)].name;
      for (int j = 0; j < in.operands; ++j)
        out << (j == 0 ? " " : j == 1 ? " <- " : ", ") << program.arrays.name(in.at[j].array) << "[" << in.at[j].offset << "]";
      out << "\n";
    }
  }
  return out.str();
}

}  // namespace elman
