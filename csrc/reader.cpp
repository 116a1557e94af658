#include "reader.h"

#include <stdexcept>

namespace elman {

void refuse(const std::string& message) { throw std::invalid_argument(message); }

namespace {

// [op, outer, inner, dst(space, index, offset, so, si), source(...)...]; cumsum and norm_backward have
// the same form
void read_elementwise(Reader& reader, Instruction& in) {
  in.dims = 2;
  in.size[0] = reader.size("outer size");
  in.size[1] = reader.size("inner size");
  in.operands = 1 + op_table[int(in.op)].sources;
  for (int i = 0; i < in.operands; ++i) {
    in.at[i] = reader.place(i ? "source" : "destination");
    reader.strides(in.at[i], 0, 2, i ? "source" : "destination");
  }
  if (in.op == Op::norm_backward && in.at[4].stride[1]) reader.fail("has more than one scale for a line");
}

// [op, outer, reduced, inner, dst(space, index, offset), src(space, index, offset, so, sr, si)...]
void read_reduction(Reader& reader, Instruction& in) {
  in.dims = 3;
  in.operands = 1 + op_table[int(in.op)].sources;
  for (int i = 0; i < 3; ++i) in.size[i] = reader.size("size");
  in.at[0] = reader.place("destination");
  in.at[0].stride[0] = in.size[2];
  in.at[0].stride[2] = 1;
  for (int i = 1; i < in.operands; ++i) {
    in.at[i] = reader.place("source");
    reader.strides(in.at[i], 0, 3, "source");
  }
  if (in.op == Op::deviation_rstd && in.at[2].stride[1]) reader.fail("has more than one mean for a sum");
}

// [op, dims, sizes..., dst(space, index, offset, strides...), src(...)]; padded in front to five dimensions
void read_permute(Reader& reader, Instruction& in) {
  const Int dims = reader.next("number of dimensions");
  if (dims < 1 || dims > max_dims) reader.fail("has " + text(dims) + " dimensions, expected 1..5");
  in.dims = max_dims;
  in.operands = 2;
  const int pad = max_dims - int(dims);
  for (int i = 0; i < max_dims; ++i) in.size[i] = i < pad ? 1 : reader.size("size");
  for (int i = 0; i < 2; ++i) {
    in.at[i] = reader.place(i ? "source" : "destination");
    reader.strides(in.at[i], pad, int(dims), i ? "source" : "destination");
  }
}

// [op, batch, m, k, n, dst(space, index, offset), a(.., sb, sm, sk), b(.., sb, sk, sn)]; loops (batch, m, k, n)
void read_rowmm(Reader& reader, Instruction& in) {
  in.dims = 4;
  in.operands = 3;
  for (int i = 0; i < 4; ++i) in.size[i] = reader.size("size");
  in.at[0] = reader.place("destination");
  in.at[0].stride[0] = in.size[1] * in.size[3];
  in.at[0].stride[1] = in.size[3];
  in.at[0].stride[3] = 1;
  in.at[1] = reader.place("left factor");
  reader.strides(in.at[1], 0, 3, "left factor");
  in.at[2] = reader.place("right factor");
  reader.strides(in.at[2], 0, 1, "right factor");
  reader.strides(in.at[2], 2, 2, "right factor");
}

// [op, weight, N, K, dst(3), has_init, init(3), a(3)]; loops (N, K); operands dst, a[, init]
void read_gemm(Reader& reader, Instruction& in, const std::vector<WeightShape>& weights) {
  const Int weight = reader.next("weight");
  if (weight < 0 || weight >= Int(weights.size()))
    reader.fail("multiplies by weight " + text(weight) + " of " + text(Int(weights.size())));
  in.weight = int(weight);
  in.dims = 2;
  in.size[0] = reader.size("N");
  in.size[1] = reader.size("K");
  const WeightShape shape = weights[weight];
  if (in.size[0] != shape.N || in.size[1] != shape.K)
    reader.fail("has (K, N) = (" + text(in.size[1]) + ", " + text(in.size[0]) + "), but weight " + text(weight) + " is (" +
                text(shape.K) + ", " + text(shape.N) + ")");
  in.at[0] = reader.place("destination");
  const Int has_init = reader.next("has_init");
  if (has_init != 0 && has_init != 1) reader.fail("has_init is " + text(has_init) + ", expected 0 or 1");
  in.operands = has_init ? 3 : 2;
  if (has_init) in.at[2] = reader.place("init");
  else
    for (int i = 0; i < 3; ++i) reader.next("init");
  in.at[1] = reader.place("left factor");
  in.at[0].stride[0] = in.at[2].stride[0] = in.at[1].stride[1] = 1;
}

}  // namespace

Instruction read_instruction(Reader& reader, const std::vector<WeightShape>& weights) {
  const Int op = reader.next("opcode");
  if (op < 0 || op >= op_count) reader.fail("has the opcode " + text(op) + ", expected 0.." + text(op_count - 1));
  Instruction in{};
  in.op = Op(op);
  in.weight = -1;
  if (is_by_lines(in.op)) read_elementwise(reader, in);
  else if (is_reduction(in.op)) read_reduction(reader, in);
  else if (in.op == Op::permute) read_permute(reader, in);
  else if (in.op == Op::rowmm) read_rowmm(reader, in);
  else read_gemm(reader, in, weights);
  reader.finish();
  return in;
}

}  // namespace elman
