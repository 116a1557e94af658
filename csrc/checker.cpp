#include "checker.h"

namespace elman {

namespace {

// Calls visit(element) for each distinct index combination of an operand, at most once each.
template <class F> void each_element(const Instruction& in, const Operand& operand, F visit) {
  Int count[max_dims], index[max_dims] = {}, at = operand.offset;
  for (int i = 0; i < max_dims; ++i) count[i] = i < in.dims && operand.stride[i] != 0 ? in.size[i] : 1;
  for (int dim = max_dims - 1; dim >= 0;) {
    visit(at);
    for (dim = max_dims - 1; dim >= 0; --dim) {
      if (++index[dim] < count[dim]) {
        at += operand.stride[dim];
        break;
      }
      at -= (count[dim] - 1) * (count[dim] > 1 ? operand.stride[dim] : 0);
      index[dim] = 0;
    }
  }
}

struct Range {
  __int128 low, high;  // inclusive
};

Range range_of(const Instruction& in, const Operand& operand) {
  Range range{operand.offset, operand.offset};
  for (int i = 0; i < in.dims; ++i)
    (operand.stride[i] < 0 ? range.low : range.high) += __int128(in.size[i] - 1) * operand.stride[i];
  return range;
}

bool same_layout(const Instruction& in, const Operand& a, const Operand& b) {
  if (a.offset != b.offset) return false;
  for (int i = 0; i < in.dims; ++i)
    if (in.size[i] > 1 && a.stride[i] != b.stride[i]) return false;
  return true;
}

// May the destination also be this source? Only where each element is read before it is written, and not after.
bool may_be_in_place(const Instruction& in, int source) {
  if (in.op == Op::gemm) return source == 2;
  return is_elementwise(in.op) || in.op == Op::cumsum;
}

bool writes_every_dimension(Op op) { return is_by_lines(op) || op == Op::permute; }

}  // namespace

void Checker::check(const Instruction& in, const Reader& reader) {
  if (!is_written_here(in.at[0].array)) reader.fail("writes to " + arrays_.name(in.at[0].array) + ", expected REG or OUT");
  check_commit(in, reader);
}

void Checker::check_commit(const Instruction& in, const Reader& reader) {
  for (int i = 0; i < in.operands; ++i) check_bounds(in, in.at[i], reader);
  for (int i = 1; i < in.operands; ++i) check_source(in, in.at[i], reader);
  check_destination(in, reader);
}

bool Checker::is_written_here(int array) const {
  return arrays_.space(array) == Space::reg || arrays_.space(array) == Space::out;
}

std::vector<bool>& Checker::written(int array) {
  if (written_.size() < arrays_.width.size()) written_.resize(arrays_.width.size());
  if (written_[array].empty()) written_[array].resize(arrays_.width[array]);
  return written_[array];
}

void Checker::check_bounds(const Instruction& in, const Operand& operand, const Reader& reader) const {
  const Range range = range_of(in, operand);
  const Int width = arrays_.width[operand.array];
  if (arrays_.space(operand.array) == Space::constant && range.low != range.high)
    reader.fail("reads a constant with a stride, expected strides of 0");
  if (range.low < 0 || range.high >= width)
    reader.fail("reaches outside the " + text(width) + " elements of " + arrays_.name(operand.array) + " (offset " +
                text(operand.offset) + ")");
}

void Checker::check_source(const Instruction& in, const Operand& operand, const Reader& reader) {
  if (!is_written_here(operand.array)) return;
  const std::vector<bool>& done = written(operand.array);
  each_element(in, operand, [&](Int element) {
    if (!done[element])
      reader.fail("reads element " + text(element) + " of " + arrays_.name(operand.array) +
                  ", which this step has not written");
  });
}

void Checker::check_destination(const Instruction& in, const Reader& reader) {
  const Operand& dst = in.at[0];
  if (writes_every_dimension(in.op))
    for (int i = 0; i < in.dims; ++i)
      if (in.size[i] > 1 && dst.stride[i] == 0) reader.fail("writes its destination with a stride of 0");
  std::vector<bool> mine(arrays_.width[dst.array]);
  each_element(in, dst, [&](Int element) {
    if (mine[element]) reader.fail("writes element " + text(element) + " of " + arrays_.name(dst.array) + " twice");
    mine[element] = true;
  });
  for (int i = 1; i < in.operands; ++i) check_overlap(in, i, mine, reader);
  std::vector<bool>& done = written(dst.array);
  for (std::size_t i = 0; i < mine.size(); ++i) done[i] = done[i] || mine[i];
}

void Checker::check_overlap(const Instruction& in, int source, const std::vector<bool>& mine,
                            const Reader& reader) const {
  const Operand &dst = in.at[0], &src = in.at[source];
  if (src.array != dst.array) return;
  if (may_be_in_place(in, source) && same_layout(in, dst, src)) return;
  each_element(in, src, [&](Int element) {
    if (mine[element])
      reader.fail("overwrites element " + text(element) + " of " + arrays_.name(dst.array) + " while it reads it");
  });
}

}  // namespace elman
