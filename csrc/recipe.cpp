#include "recipe.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "buffer.h"
#include "parallel.h"
#include "reader.h"

namespace elman {

namespace {

// Of the widest array that passes, so that it is still in a second-level cache when it is read, in whole blocks of the
// rows that sums take (see simd/sums.h). Weights that do not stay in a cache are read once for each stretch: the larger they
// are, the more rows that must be worth.
constexpr Int stretch_bytes = 512 << 10, rows_of_a_sum = 256, bytes_worth_a_block = 1 << 20;
std::atomic<Int> forced_stretch{0};  // steps, for tests

// Whether an array holds no more than a stretch of the steps: nobody wants it afterwards.
bool is_passing(const RecipeArray& array) { return array.keeper == Keeper::scratch && array.extent == Extent::rows; }

// passing: steps that those hold which pass.
Int rows_of(const RecipeArray& array, Int T, Int passing, Int B) {
  switch (array.extent) {
    case Extent::one: return 1;
    case Extent::batch: return B;
    case Extent::rows: return (is_passing(array) ? passing : T) * B;
    case Extent::history: return (T + 1) * B;
  }
  return 0;
}

// Places in one block, one after the other; large ones at different places in their pages (see memory.cpp).
class Places {
 public:
  Int add(Int bytes) {
    constexpr Int page = 4096, line = 64, large = 64 << 10, colours = 23, step = 11 * line;
    const Int begin = bytes < large ? up_to(end_, line) : up_to(end_, page) + count_++ % colours * step;
    end_ = begin + bytes;
    return begin;
  }
  Int size() const { return end_; }

 private:
  static Int up_to(Int value, Int unit) { return (value + unit - 1) / unit * unit; }
  Int end_ = 0, count_ = 0;
};

Int block_size(const std::vector<RecipeArray>& arrays, Keeper keeper, Int element, Int T, Int passing, Int B) {
  Places places;
  for (const RecipeArray& array : arrays)
    if (array.keeper == keeper) places.add(array.width * rows_of(array, T, passing, B) * element);
  return places.size();
}

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
    extent(start.from, Extent::batch), width(start.from, array(start.to).width), written(start.to);
    if (array(start.to).extent == Extent::one) refuse("array " + text(start.to) + " has no batch to start with");
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

// Steps [begin, begin + steps) of a call; `turn`: how many have been before it.
struct Stretch {
  Int begin, steps, turn;
};

// One call: the addresses of all arrays, and the steps on them.
class Cooking {
 public:
  // buffers: how many stretches an array that passes has room for, in turns.
  Cooking(const std::vector<RecipeArray>& arrays, Number number, const Isa& isa, Int T, Int B, Int longest, Int buffers,
          bool reverse, int threads)
      : arrays_(arrays), number_(number), isa_(isa), element_(element_size(number)), T_(T), B_(B), longest_(longest), buffers_(buffers),
        reverse_(reverse), threads_(threads), scratch_(block_size(arrays, Keeper::scratch, element_, T, longest * buffers, B)),
        now_{0, longest, 0} {}

  void place(const std::vector<std::uintptr_t>& given, std::uintptr_t kept, const std::uintptr_t* own) {
    Places in_scratch, in_kept;
    std::size_t next = 0;
    for (const RecipeArray& array : arrays_) {
      const Int bytes = array.width * rows_of(array, T_, longest_ * buffers_, B_) * element_;
      switch (array.keeper) {
        case Keeper::given: base_.push_back(given[next++]); break;
        case Keeper::scratch: base_.push_back(std::uintptr_t(scratch_.get()) + std::uintptr_t(in_scratch.add(bytes))); break;
        case Keeper::kept: base_.push_back(kept + std::uintptr_t(in_kept.add(bytes))); break;
        case Keeper::own: base_.push_back(*own++); break;
      }
    }
  }

  // What follows is of these steps.
  void turn_to(Stretch stretch) { now_ = stretch; }

  std::unique_ptr<Stream> stream(const KernelStep& step, bool by_batch) {
    Sequence sequence{longest_, B_, nullptr, reverse_ != step.backward, {}, {}, {}, {}, {}, {}, nullptr, ResetMode::none, {}, threads_};
    if (step.all_rows && !by_batch) {
      cut(step, longest_ * B_);
      sequence.steps = Int(offsets_.size()) - 1, sequence.batch = together(step), sequence.reverse = false;
      sequence.offsets = offsets_.data();
    }
    sequence.in.reserve(step.in.size()), sequence.out.reserve(step.out.size()), sequence.ctx.reserve(step.ctx.size());
    sequence.vec.reserve(step.vec.size()), sequence.carry.reserve(step.carry.size());
    sequence.weights.reserve(step.weights.size());
    for (const Operated& in : step.in) sequence.in.push_back({at(in), width(in.array)});
    for (const Operated& out : step.out) sequence.out.push_back(at(out));
    for (int i : step.ctx) sequence.ctx.push_back(base(i));
    for (int i : step.vec) sequence.vec.push_back(base(i));
    for (int i : step.carry) sequence.carry.push_back(base(i));
    for (const RecipeWeight& weight : step.weights) sequence.weights.push_back({base(weight.array), weight.stride_k, weight.stride_n});
    return step.kernel->stream(std::move(sequence));
  }

  void run(const RecipeStep& step) const {
    if (step.kind == RecipeStep::Kind::start) run(step.start);
    else run(step.join);
  }

  void run(const KernelStep& step, Stream& stream, bool by_batch) {
    addresses_.clear();
    add_addresses(step, addresses_);
    const std::uintptr_t *in = addresses_.data(), *out = in + step.in.size();
    if (!step.all_rows || by_batch) return stream.run(now_.steps, nullptr, in, out);
    cut(step, now_.steps * B_);
    stream.run(Int(offsets_.size()) - 1, offsets_.data(), in, out);
  }

  // Of its inputs, then of its outputs.
  void add_addresses(const KernelStep& step, std::vector<std::uintptr_t>& addresses) const {
    for (const auto* operands : {&step.in, &step.out})
      for (const Operated& operand : *operands) addresses.push_back(at(operand));
  }
  Int steps() const { return now_.steps; }

  // For as many rows as a stretch has.
  std::unique_ptr<Sums> sums(const std::vector<RecipeSum>& sums) const {
    std::vector<RowSumMemory> jobs;
    jobs.reserve(sums.size());
    for (const RecipeSum& sum : sums) {
      const Int whole = width(sum.a.array);
      RowSumMemory& job = jobs.emplace_back(RowSumMemory{sum.N, at(sum.a) + behind(sum), whole, {}, {}});
      job.columns.reserve(sum.columns.size()), job.products.reserve(sum.products.size());
      for (const RecipeColumns& columns : sum.columns)
        job.columns.push_back({columns.factor.array < 0 ? 0 : at(columns.factor) + behind(sum), whole, base(columns.out)});
      for (const RecipeProduct& product : sum.products)
        job.products.push_back({at(product.b), width(product.b.array), width(product.b.array), base(product.out)});
    }
    return make_sums(number_, isa_, longest_ * B_, jobs, threads_);
  }

  // Of what sums read, in the order of Sums::run_part.
  void add_addresses(const std::vector<RecipeSum>& sums, std::vector<std::uintptr_t>& addresses) const {
    for (const RecipeSum& sum : sums) {
      addresses.push_back(at(sum.a) + behind(sum));
      for (const RecipeColumns& columns : sum.columns)
        if (columns.factor.array >= 0) addresses.push_back(at(columns.factor) + behind(sum));
      for (const RecipeProduct& product : sum.products) addresses.push_back(at(product.b));
    }
  }

  Int rows() const { return now_.steps * B_; }
  bool is_first() const { return now_.turn == 0; }

  void run(const Start& start) const {
    const RecipeArray& to = arrays_[std::size_t(start.to)];
    const Int size = B_ * to.width * element_;
    const bool behind = to.extent == Extent::history && reverse_;
    char* memory = reinterpret_cast<char*>(base(start.to)) + (behind ? T_ * size : 0);
    for (Int left = to.extent == Extent::rows ? is_passing(to) ? longest_ * buffers_ : T_ : 1; left > 0; --left, memory += size)
      if (const std::uintptr_t from = base(start.from)) std::memcpy(memory, reinterpret_cast<const void*>(from), std::size_t(size));
      else std::memset(memory, 0, std::size_t(size));
  }

  void run(const Join& join) const {
    if (element_ == Int(sizeof(float))) run<float>(join);
    else run<double>(join);
  }

 private:
  template <class T> void run(const Join& join) const {
    const T* from = reinterpret_cast<const T*>(base(join.from));
    T* to = reinterpret_cast<T*>(base(join.to)) + join.begin;
    const Int count = width(join.from);
    if (join.adds) for (Int i = 0; i < count; ++i) to[i] += from[i];
    else std::memcpy(to, from, std::size_t(count) * sizeof(T));
  }

  // Bytes from the first column to the first that is summed.
  std::uintptr_t behind(const RecipeSum& sum) const { return std::uintptr_t(sum.begin * element_); }

  Int width(int array) const { return arrays_[std::size_t(array)].width; }
  std::uintptr_t base(int array) const { return base_[std::size_t(array)]; }
  // Where the steps of now begin.
  std::uintptr_t at(const Operated& operand) const {
    const bool behind = operand.moment != Moment::plain && (operand.moment == Moment::after) != reverse_;
    const bool passes = is_passing(arrays_[std::size_t(operand.array)]);
    const Int before = (!passes ? now_.begin : now_.turn % buffers_ * longest_) + behind;
    return base(operand.array) + std::uintptr_t(before * B_ * width(operand.array) * element_);
  }

  // Rows that are taken at once by all threads.
  Int together(const KernelStep& step) const {
    const Int rows = longest_ * B_;
    return step.block ? std::min(step.block * threads_, rows) : rows;
  }
  // A block after the other, as if they were steps: what one makes is still near for the next instruction.
  void cut(const KernelStep& step, Int rows) {
    offsets_.clear();
    for (Int row = 0; row < rows; row += together(step)) offsets_.push_back(row);
    offsets_.push_back(rows);
  }

  const std::vector<RecipeArray>& arrays_;
  Number number_;
  const Isa& isa_;
  Int element_, T_, B_, longest_, buffers_;
  bool reverse_;
  int threads_;
  Buffer<char> scratch_;
  Stretch now_;
  std::vector<std::uintptr_t> base_, addresses_;
  std::vector<Int> offsets_;
};

// What threads do without waiting for one another: runs of kernels one after the other, each thread on the same rows of
// the batch in all of them, and before that sums over what an earlier region has made.
class Region {
 public:
  void add(const Cooking& cooking, const KernelStep& step, Stream& stream) {
    runs_.push_back({&stream, cooking.steps(), addresses_.size(), addresses_.size() + step.in.size()});
    cooking.add_addresses(step, addresses_);
  }
  // To be done in the next region.
  void add(const Cooking& cooking, const std::vector<RecipeSum>& sums, Sums& on) {
    later_.sums.push_back({&on, cooking.rows(), later_.read.size(), !cooking.is_first()});
    cooking.add_addresses(sums, later_.read);
  }

  void run() {
    int parts = 0;
    for (const Run& run : runs_) parts = std::max(parts, run.stream->parts());
    for (const Summing& some : now_.sums) parts = std::max(parts, some.sums->parts());
    if (parts) in_parallel(parts, [&](int part) { run_part(part); });
    runs_.clear(), addresses_.clear(), now_.clear();
    std::swap(now_, later_);
  }

 private:
  struct Run {
    Stream* stream;
    Int steps;
    std::size_t in, out;
  };
  struct Summing {
    Sums* sums;
    Int rows;
    std::size_t read;
    bool adds;
  };
  struct Summings {
    std::vector<Summing> sums;
    std::vector<std::uintptr_t> read;

    void clear() { sums.clear(), read.clear(); }
  };

  void run_part(int part) const {
    for (const Summing& some : now_.sums)
      if (part < some.sums->parts()) some.sums->run_part(part, some.rows, now_.read.data() + some.read, some.adds);
    for (const Run& run : runs_)
      if (part < run.stream->parts()) run.stream->run_part(part, run.steps, addresses_.data() + run.in, addresses_.data() + run.out);
  }

  std::vector<Run> runs_;
  std::vector<std::uintptr_t> addresses_;
  Summings now_, later_;
};

}  // namespace

void set_stretch(Int steps) { forced_stretch = steps; }

std::vector<int> RecipeStep::reads() const {
  std::vector<int> arrays;
  for (const Operated& in : kernel.in) arrays.push_back(in.array);
  for (const auto* some : {&kernel.ctx, &kernel.vec, &kernel.carry}) arrays.insert(arrays.end(), some->begin(), some->end());
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
  }
  if (block >= 0 && check.array(block).keeper != Keeper::given) refuse("the block of kept arrays is not given");
  for (const RecipeStep& step : steps) {
    if (step.kind == RecipeStep::Kind::kernel) check.kernel(step.kernel);
    else if (step.kind == RecipeStep::Kind::start) check.start(step.start);
    else if (step.kind == RecipeStep::Kind::join) check.join(step.join);
    else for (const RecipeSum& sum : step.sums) check.sum(sum);
  }
  sort(std::move(steps));
}

// The kernels and sums, which are run a stretch after the other, what comes before all of them, and what comes last.
void Recipe::sort(std::vector<RecipeStep> steps) {
  const auto works = [](const RecipeStep& step) { return step.kind == RecipeStep::Kind::kernel || step.kind == RecipeStep::Kind::sums; };
  const auto last = std::find_if(steps.rbegin(), steps.rend(), works).base();
  std::vector<bool> read(arrays_.size()), written(arrays_.size()), summed(arrays_.size());
  int loops = 0;
  for (auto step = steps.begin(); step != steps.end(); ++step) {
    if (works(*step)) {
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
    const bool starts = step->kind == RecipeStep::Kind::start;
    const auto from = std::size_t(starts ? step->start.from : step->join.from), to = std::size_t(starts ? step->start.to : step->join.to);
    if (step >= last) {
      after_.push_back(std::move(*step));
      continue;
    }
    if (written[from] || written[to] || read[to]) refuse("array " + text(Int(to)) + " is wanted between two stretches");
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
// (measured: a seventh less time in training at 2 MiB, no difference from 8 MiB on).
bool Recipe::is_by_batch(Int B, int threads) const {
  constexpr Int enough = 4, cached = 4096 << 10;
  return B >= enough * threads && weight_bytes() <= cached;
}

// Of all kernels.
Int Recipe::weight_bytes() const {
  Int size = 0;
  for (const RecipeStep& step : steps_)
    if (step.kind == RecipeStep::Kind::kernel)
      for (const WeightShape& weight : step.kernel.kernel->program().weights) size += weight.K * weight.N;
  return size * element_size(number_);
}

Int Recipe::stretches_of(Int T, Int B) const {
  Int widest = 0;
  for (const RecipeArray& array : arrays_)
    if (is_passing(array)) widest = std::max(widest, array.width * element_size(number_));
  if (!widest) return 1;
  const Int forced = forced_stretch;
  const Int blocks = std::max<Int>({stretch_bytes / widest / rows_of_a_sum, weight_bytes() / bytes_worth_a_block, 1});
  const Int rows = blocks * rows_of_a_sum;
  const Int steps = forced ? forced : std::max<Int>(rows / B, 1);
  return (T + steps - 1) / steps;
}

Recipe::Made::~Made() {
  for (PyObject* capsule : capsules) Py_XDECREF(capsule);
  for (PyObject* capsule : histories) Py_XDECREF(capsule);
}

void Recipe::make(Int T, Int B, bool reverse, Made& made) const {
  const Int element = element_size(number_);
  if (T < 1 || B < 1 || T > largest || B > largest) refuse("T = " + text(T) + ", B = " + text(B) + ", expected 1 or more");
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
    sizes = {(block_size(arrays_, Keeper::kept, element, T, T, B) + element - 1) / element};
    add(made.capsules);
  }
  for (const RecipeArray& array : arrays_) {
    if (array.keeper != Keeper::own) continue;
    sizes.clear();
    if (array.extent == Extent::rows) sizes = {T, B};
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

void Recipe::run(Int T, Int B, bool reverse, const std::vector<std::uintptr_t>& given, const Made& made, int threads) const {
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
  const Int stretches = stretches_of(T, B), longest = (T + stretches - 1) / stretches;
  const bool by_batch = is_by_batch(B, threads);
  const Int buffers = by_batch && sums_last_ && stretches > 1 ? 2 : 1;  // sums of a stretch, while the next one is made
  Cooking cooking(arrays_, number_, isa_, T, B, longest, buffers, reverse, threads);
  cooking.place(given, kept, made.addresses.data() + makes_block);
  for (const RecipeStep& step : before_) cooking.run(step);
  std::vector<std::unique_ptr<Stream>> streams(steps_.size());
  std::vector<std::unique_ptr<Sums>> sums(steps_.size());
  for (std::size_t s = 0; s < steps_.size(); ++s)
    if (steps_[s].kind == RecipeStep::Kind::kernel) streams[s] = cooking.stream(steps_[s].kernel, by_batch);
    else sums[s] = cooking.sums(steps_[s].sums);
  Region region;
  for (Int i = 0; i < stretches; ++i) {
    const Int k = reverse != backward_ ? stretches - 1 - i : i, begin = T * k / stretches;
    cooking.turn_to({begin, T * (k + 1) / stretches - begin, i});
    for (std::size_t s = 0; s < steps_.size(); ++s)
      if (sums[s]) region.add(cooking, steps_[s].sums, *sums[s]);
      else if (by_batch && streams[s]->parts()) region.add(cooking, steps_[s].kernel, *streams[s]);
      else region.run(), cooking.run(steps_[s].kernel, *streams[s], by_batch);
    if (sums_last_) region.run();
  }
  region.run(), region.run();
  for (const RecipeStep& step : after_) cooking.run(step);
}

}  // namespace elman
