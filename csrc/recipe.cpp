#include "recipe.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>
#include <utility>

#include "cooking.h"
#include "reader.h"

namespace elman {

namespace {

// Of the widest array that passes, so that it is still in a second-level cache when it is read, in whole blocks of the
// rows that sums take (see simd/sums.h). Weights that do not stay in a cache are read once for each stretch: the larger they
// are, the more rows that must be worth.
constexpr Int stretch_bytes = 512 << 10, rows_of_a_sum = 256, bytes_worth_a_block = 1 << 20;
std::atomic<Int> forced_stretch{0};  // steps, for tests

// What holds of a recipe whatever the sizes of a call.
class RecipeCheck {
 public:
  RecipeCheck(Number number, const std::vector<RecipeArray>& arrays) : number_(number), arrays_(arrays) {}

  const RecipeArray& array(int index) const {
    if (index < 0 || index >= int(arrays_.size()))
      refuse("array " + text(index) + " of " + text(Int(arrays_.size())));
    return arrays_[std::size_t(index)];
  }
  void written(int index) const {
    if (array(index).keeper == Keeper::given) refuse("array " + text(index) + " is given, and would be written");
  }
  void width(int index, Int expected) const {
    if (array(index).width != expected)
      refuse("array " + text(index) + " has the width " + text(array(index).width) + ", expected " + text(expected));
  }
  void extent(int index, Extent expected) const {
    if (array(index).extent != expected) refuse("array " + text(index) + " has the wrong number of rows");
  }
  void rows(const Operated& operand) const {
    extent(operand.array, operand.moment == Moment::plain ? Extent::rows : Extent::history);
  }

  void kernel(const KernelStep& step) const {
    if (step.kernel->number() != number_) refuse("a kernel of another number type");
    const Program& program = step.kernel->program();
    const auto wide = [&](Space space, std::size_t i) {
      if (Int(i) >= program.arrays.count(space)) refuse(std::string("too many arrays for ") + space_names[int(space)]);
      return program.arrays.width[std::size_t(program.arrays.of(space, Int(i)))];
    };
    for (std::size_t i = 0; i < step.in.size(); ++i) rows(step.in[i]), width(step.in[i].array, wide(Space::in, i));
    for (std::size_t i = 0; i < step.out.size(); ++i)
      rows(step.out[i]), width(step.out[i].array, wide(Space::out, i)), written(step.out[i].array);
    for (std::size_t i = 0; i < step.ctx.size(); ++i)
      extent(step.ctx[i], Extent::batch), width(step.ctx[i], wide(Space::ctx, i));
    for (std::size_t i = 0; i < step.carry.size(); ++i)
      extent(step.carry[i], Extent::batch), width(step.carry[i], wide(Space::carry, i)), written(step.carry[i]);
    for (std::size_t i = 0; i < step.vec.size(); ++i)
      extent(step.vec[i], Extent::one), width(step.vec[i], wide(Space::vec, i));
    if (step.weights.size() != program.weights.size()) refuse("the wrong number of weights");
    for (std::size_t i = 0; i < step.weights.size(); ++i)
      extent(step.weights[i].array, Extent::one), width(step.weights[i].array, program.weights[i].K * program.weights[i].N);
    if (step.block < 0) refuse("a block of " + text(step.block) + " rows");
    if (step.all_rows && (!step.carry.empty() || !step.ctx.empty())) refuse("all rows at once have no states and no contexts");
    if (!step.rest.empty() && step.rest.size() != step.carry.size()) refuse("resets of some states alone");
    for (std::size_t i = 0; i < step.rest.size(); ++i) {
      extent(step.rest[i], Extent::batch), width(step.rest[i], wide(Space::carry, i));
      if (step.backward) written(step.rest[i]);
    }
  }

  void sum(const RecipeSum& sum) const {
    rows(sum.a);
    const Int N = sum.N, whole = array(sum.a.array).width;
    if (N < 1 || sum.begin < 0 || sum.begin + N > whole) refuse("a sum over columns that are not there");
    for (const RecipeColumns& columns : sum.columns) {
      if (columns.factor.array >= 0) rows(columns.factor), width(columns.factor.array, whole);
      extent(columns.out, Extent::one), width(columns.out, N), written(columns.out);
    }
    for (const RecipeProduct& product : sum.products) {
      rows(product.b);
      extent(product.out, Extent::one), width(product.out, N * array(product.b.array).width), written(product.out);
    }
  }

  void start(const Start& start) const {
    if (start.from >= 0) extent(start.from, Extent::batch), width(start.from, array(start.to).width);
    written(start.to);
    if (array(start.to).extent == Extent::one) refuse("array " + text(start.to) + " has no batch to start with");
  }

  void unsort(const Unsort& unsort) const {
    extent(unsort.from, Extent::batch), extent(unsort.to, Extent::batch), width(unsort.from, array(unsort.to).width);
    written(unsort.to);
    if (unsort.from == unsort.to) refuse("array " + text(unsort.to) + " is put in order in place");
  }

  void move(const Move& move) const {
    extent(move.rows, Extent::rows), width(move.rows, array(move.outside).width), written(move.out ? move.outside : move.rows);
    if (move.out || array(move.outside).extent != Extent::batch) extent(move.outside, Extent::padded);
  }

  void join(const Join& join) const {
    extent(join.from, Extent::one), extent(join.to, Extent::one), written(join.to);
    if (join.from == join.to || join.begin < 0 || join.begin + array(join.from).width > array(join.to).width)
      refuse("array " + text(join.from) + " does not fit into array " + text(join.to));
  }

 private:
  Number number_;
  const std::vector<RecipeArray>& arrays_;
};

}  // namespace

void set_stretch(Int steps) { forced_stretch = steps; }

std::vector<int> RecipeStep::reads() const {
  std::vector<int> arrays;
  if (kind == Kind::move) arrays.push_back(move.out ? move.rows : move.outside);
  for (const Operated& in : kernel.in) arrays.push_back(in.array);
  for (const auto* some : {&kernel.ctx, &kernel.vec, &kernel.carry, &kernel.rest}) arrays.insert(arrays.end(), some->begin(), some->end());
  for (const RecipeWeight& weight : kernel.weights) arrays.push_back(weight.array);
  for (const RecipeSum& sum : sums) {
    arrays.push_back(sum.a.array);
    for (const RecipeColumns& columns : sum.columns) arrays.push_back(columns.factor.array);
    for (const RecipeProduct& product : sum.products) arrays.push_back(product.b.array);
  }
  return arrays;
}

std::vector<int> RecipeStep::writes() const {
  std::vector<int> arrays(kernel.carry);
  if (kind == Kind::move) arrays.push_back(move.out ? move.outside : move.rows);
  if (kernel.backward) arrays.insert(arrays.end(), kernel.rest.begin(), kernel.rest.end());
  for (const Operated& out : kernel.out) arrays.push_back(out.array);
  for (const RecipeSum& sum : sums) {
    for (const RecipeColumns& columns : sum.columns) arrays.push_back(columns.out);
    for (const RecipeProduct& product : sum.products) arrays.push_back(product.out);
  }
  return arrays;
}

Recipe::Recipe(Number number, const Isa& isa, std::vector<RecipeArray> arrays, std::vector<RecipeStep> steps, int block)
    : number_(number), isa_(isa), arrays_(std::move(arrays)), block_(block) {
  const RecipeCheck check(number, arrays_);
  for (const RecipeArray& array : arrays_) {
    if (array.width < 1 || array.width > largest) refuse("an array has the width " + text(array.width) + ", expected 1 or more");
    Int count = 1;
    for (Int size : array.tail) count *= size;
    if (array.keeper == Keeper::own && count != array.width) refuse("an array's sizes are not its width");
    keeps_ = keeps_ || array.keeper == Keeper::kept;
    shifts_ = shifts_ || array.extent == Extent::history;
  }
  if (block >= 0 && check.array(block).keeper != Keeper::given) refuse("the block of kept arrays is not given");
  for (const RecipeStep& step : steps) {
    if (step.kind == RecipeStep::Kind::kernel)
      check.kernel(step.kernel), goes_on_ = goes_on_ || (!step.kernel.carry.empty() && step.kernel.rest.empty());
    else if (step.kind == RecipeStep::Kind::start) check.start(step.start);
    else if (step.kind == RecipeStep::Kind::join) check.join(step.join);
    else if (step.kind == RecipeStep::Kind::unsort) check.unsort(step.unsort), moves_ = true;
    else if (step.kind == RecipeStep::Kind::move) check.move(step.move), moves_ = true;
    else for (const RecipeSum& sum : step.sums) check.sum(sum);
  }
  sort(std::move(steps));
}

// The kernels and sums, which are run a stretch after the other, what comes before all of them, and what comes last.
void Recipe::sort(std::vector<RecipeStep> steps) {
  const auto last = std::find_if(steps.rbegin(), steps.rend(), [](const RecipeStep& step) { return step.works(); }).base();
  std::vector<bool> read(arrays_.size()), written(arrays_.size()), summed(arrays_.size());
  int loops = 0;
  for (auto step = steps.begin(); step != steps.end(); ++step) {
    if (step->works()) {
      for (int array : step->reads()) {
        if (array >= 0) read[std::size_t(array)] = true;
        if (array >= 0 && summed[std::size_t(array)]) refuse("array " + text(array) + " is read, and is a sum over all rows");
      }
      for (int array : step->writes()) written[std::size_t(array)] = true;
      if (step->kind == RecipeStep::Kind::sums)
        for (int array : step->writes()) summed[std::size_t(array)] = true;
      if (step->kind == RecipeStep::Kind::kernel && !step->kernel.all_rows) ++loops, backward_ = step->kernel.backward;
      steps_.push_back(std::move(*step));
      continue;
    }
    if (step >= last) {
      after_.push_back(std::move(*step));
      continue;
    }
    if (step->kind == RecipeStep::Kind::unsort) refuse("a batch is put in the caller's order before all steps");
    const bool starts = step->kind == RecipeStep::Kind::start;
    const int from = starts ? step->start.from : step->join.from, to = starts ? step->start.to : step->join.to;
    if ((from >= 0 && written[std::size_t(from)]) || written[std::size_t(to)] || read[std::size_t(to)]) refuse("array " + text(Int(to)) + " is wanted between two stretches");
    before_.push_back(std::move(*step));
  }
  if (loops > 1) refuse("two loops");
  for (const RecipeStep& step : steps_) {
    const bool sums = step.kind == RecipeStep::Kind::sums;
    if (sums_last_ && !sums) refuse("a kernel behind sums");
    sums_last_ = sums;
  }
}

// Whether sections go as a loop does, step by step with the rows of the batch dealt to the threads: where a thread has
// rows enough for the products to be worth it, and the weights of all kernels are no more than a few second-level caches
// (measured: a seventh less time in training at 2 MiB, no difference from 8 MiB on). 0: no rows are enough.
Int Recipe::enough_rows(int threads) const {
  constexpr Int enough = 4, cached = 4096 << 10;
  return weight_bytes() <= cached ? enough * threads : 0;
}

// Of all kernels.
Int Recipe::weight_bytes() const {
  Int size = 0;
  for (const RecipeStep& step : steps_)
    if (step.kind == RecipeStep::Kind::kernel)
      for (const WeightShape& weight : step.kernel.kernel->program().weights) size += weight.K * weight.N;
  return size * element_size(number_);
}

// 0: as many as there are.
Int Recipe::rows_of_a_stretch() const {
  Int widest = 0;
  for (const RecipeArray& array : arrays_)
    if (is_passing(array)) widest = std::max(widest, array.width * element_size(number_));
  if (!widest) return 0;
  return rows_of_a_sum * std::max<Int>({stretch_bytes / widest / rows_of_a_sum, weight_bytes() / bytes_worth_a_block, 1});
}

void Recipe::check_ragged(Int T, Int B, bool reverse, const Ragged* ragged) const {
  if (T < 1 || B < 1 || T > largest || B > largest) refuse("T = " + text(T) + ", B = " + text(B) + ", expected 1 or more");
  if (moves_ && !ragged) refuse("it is not said which rows take which steps");
  if (!ragged) return;
  if (ragged->T != T || ragged->B != B || ragged->reverse != reverse) refuse("rows of another call");
  if (ragged->rows < 1) refuse("no row takes a step");
  if (!moves_ && !ragged->is_whole) refuse("rows that take no step, where all rows are taken");
  if (shifts_) refuse("a history of states, where they may end or go back");
  if (goes_on_ && !ragged->flags.empty()) refuse("resets, and nothing that states go back to");
}

Recipe::Made::~Made() {
  for (PyObject* capsule : capsules) Py_XDECREF(capsule);
  for (PyObject* capsule : histories) Py_XDECREF(capsule);
}

void Recipe::make(Int T, Int B, bool reverse, const Ragged* ragged, Made& made) const {
  const Int element = element_size(number_);
  check_ragged(T, B, reverse, ragged);
  const CallSize size{T, B, ragged ? ragged->rows : T * B};
  made.capsules.reserve(arrays_.size()), made.histories.reserve(arrays_.size()), made.addresses.reserve(arrays_.size());
  std::vector<Int> sizes;
  const auto hold = [](std::vector<PyObject*>& capsules, PyObject* capsule) {
    if (!capsule) throw std::bad_alloc();
    capsules.push_back(capsule);
  };
  const auto add = [&](std::vector<PyObject*>& capsules) {
    std::uintptr_t address = 0;
    hold(capsules, ArrayShape(element, sizes).make(&address));
    made.addresses.push_back(address);
  };
  if (keeps_ && block_ < 0) {
    sizes = {(block_size(arrays_, Keeper::kept, element, size, 0) + element - 1) / element};
    add(made.capsules);
  }
  for (const RecipeArray& array : arrays_) {
    if (array.keeper != Keeper::own) continue;
    sizes.clear();
    if (array.extent == Extent::rows && moves_) refuse("rows that are taken, as an array of its own");
    if (array.extent == Extent::rows || array.extent == Extent::padded) sizes = {T, B};
    else if (array.extent == Extent::history) sizes = {T + 1, B};
    else if (array.extent == Extent::batch) sizes = {B};
    for (Int size : array.tail) sizes.push_back(size);
    if (array.extent != Extent::history) {
      add(made.capsules);
      continue;
    }
    add(made.histories);
    sizes[0] = T;
    hold(made.capsules, ArrayShape(element, sizes).window(made.histories.back(), reverse ? 0 : B * array.width));
  }
}

void Recipe::run(Int T, Int B, bool reverse, const Ragged* ragged, const std::vector<std::uintptr_t>& given, const Made& made,
                 int threads) const {
  check_ragged(T, B, reverse, ragged);
  Int expected = 0;
  for (const RecipeArray& array : arrays_) expected += array.keeper == Keeper::given;
  if (Int(given.size()) != expected) refuse(text(Int(given.size())) + " addresses, expected " + text(expected));
  const bool makes_block = keeps_ && block_ < 0;
  std::uintptr_t kept = makes_block ? made.addresses[0] : 0;
  if (block_ >= 0) {
    Int before = 0;
    for (int i = 0; i < block_; ++i) before += arrays_[std::size_t(i)].keeper == Keeper::given;
    kept = given[std::size_t(before)];
  }
  // A section for all rows has fewer left over than one step by step, where these have few.
  constexpr Int whole_tiles = 4;
  const Int about = rows_of_a_stretch(), forced = forced_stretch, enough = enough_rows(threads);
  const CallSize size{T, B, ragged ? ragged->rows : T * B};
  const Int steps = !about ? T : forced ? forced : std::max<Int>(about / B, 1);
  const Stretches stretches = ragged ? Stretches(*ragged, about ? about : size.rows, about ? forced : 0, whole_tiles * enough, threads)
                                     : Stretches(size, (T + steps - 1) / steps, enough && B >= enough);
  const Int count = Int(stretches.all().size());
  const bool waits = !ragged && !stretches.longest().by_batch;  // all for one another, at each kernel
  const Int buffers = !waits && sums_last_ && count > 1 ? 2 : 1;  // sums of a stretch, while the next one is made
  Cooking cooking(arrays_, number_, isa_, size, stretches, ragged, buffers, reverse, threads);
  cooking.place(given, kept, made.addresses.data() + makes_block);
  for (const RecipeStep& step : before_) cooking.run(step);
  for (const RecipeStep& step : steps_)
    if (step.kind == RecipeStep::Kind::move && step.move.out) cooking.clear_holes(step.move);
  std::vector<std::unique_ptr<Stream>> streams[2];
  streams[0].resize(steps_.size()), streams[1].resize(steps_.size());
  std::vector<std::unique_ptr<Sums>> sums(steps_.size());
  for (std::size_t s = 0; s < steps_.size(); ++s)
    if (steps_[s].kind == RecipeStep::Kind::sums) sums[s] = cooking.sums(steps_[s].sums);
  Region region;
  for (Int i = 0; i < count; ++i) {
    const Stretch& now = stretches.all()[std::size_t(reverse != backward_ ? count - 1 - i : i)];
    cooking.turn_to(now, i);
    for (std::size_t s = 0; s < steps_.size(); ++s) {
      const RecipeStep& step = steps_[s];
      if (step.kind == RecipeStep::Kind::sums) region.add(cooking, step.sums, *sums[s]);
      else if (step.kind == RecipeStep::Kind::move) region.add(cooking, step.move);
      else {
        std::unique_ptr<Stream>& stream = streams[now.by_batch && step.kernel.all_rows][s];
        if (!stream) stream = cooking.stream(step.kernel);
        if (now.by_batch && stream->parts()) region.add(cooking, step.kernel, *stream);
        else region.run(), cooking.run(step.kernel, *stream);
      }
    }
    if (sums_last_ || ragged) region.run();
  }
  region.run(), region.run();
  for (const RecipeStep& step : after_) cooking.run(step);
}

}  // namespace elman
