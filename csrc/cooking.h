// One call of a recipe: where its arrays lie, and its steps on them, a stretch after the other.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "buffer.h"
#include "parallel.h"
#include "ragged.h"
#include "recipe.h"

namespace elman {

// Steps and batch size of the caller's arrays, and how many rows are taken of these.
struct CallSize {
  Int T, B, rows;
};

// Whether an array holds no more than a stretch of the steps: nobody wants it afterwards.
inline bool is_passing(const RecipeArray& array) { return array.keeper == Keeper::scratch && array.extent == Extent::rows; }

// passing: rows that those hold which pass.
inline Int rows_of(const RecipeArray& array, const CallSize& size, Int passing) {
  switch (array.extent) {
    case Extent::one: return 1;
    case Extent::batch: return size.B;
    case Extent::rows: return is_passing(array) ? passing : size.rows;
    case Extent::history: return (size.T + 1) * size.B;
    case Extent::padded: return size.T * size.B;
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

inline Int block_size(const std::vector<RecipeArray>& arrays, Keeper keeper, Int element, const CallSize& size, Int passing) {
  Places places;
  for (const RecipeArray& array : arrays)
    if (array.keeper == keeper) places.add(array.width * rows_of(array, size, passing) * element);
  return places.size();
}

template <class T> void join_numbers(const T* from, T* to, Int count, bool adds) {
  if (adds) for (Int i = 0; i < count; ++i) to[i] += from[i];
  else std::memcpy(to, from, std::size_t(count) * sizeof(T));
}
inline void join_numbers(std::uintptr_t from, std::uintptr_t to, Int count, bool adds, Int element) {
  if (element == Int(sizeof(float))) join_numbers(reinterpret_cast<const float*>(from), reinterpret_cast<float*>(to), count, adds);
  else join_numbers(reinterpret_cast<const double*>(from), reinterpret_cast<double*>(to), count, adds);
}

// Some steps of a call and their rows, [first, first + rows) of all. span: from the first of these rows on. turn: how many
// stretches have been before it.
struct Stretch {
  Int begin, first, rows;
  Span span;
  bool by_batch;  // each thread keeps to its rows of the batch
  int parts = 0;  // that the rows are dealt to, where that is done anew
  Int turn = 0;
};

// The stretches of a call, first to last, and the one with the most rows.
class Stretches {
 public:
  Stretches(const CallSize& size, Int count, bool by_batch) {  // every row takes every step
    for (Int k = 0; k < count; ++k) {
      const Int begin = size.T * k / count, steps = size.T * (k + 1) / count - begin;
      add({begin, begin * size.B, steps * size.B, {steps}, by_batch});
    }
  }

  // about: rows, but whole steps; steps: so many instead, for tests; 0: none. enough: rows of a step, in the mean, from which
  // on each thread keeps to its rows; 0: in no stretch.
  Stretches(const Ragged& ragged, Int about, Int steps, Int enough, int threads) {
    const std::vector<Int>& offsets = ragged.offsets;
    const Int count = std::max<Int>((ragged.rows + about - 1) / about, 1);
    offsets_.reserve(offsets.size() * 2), bounds_.reserve(offsets.size() * std::size_t(threads + 1));
    for (Int begin = 0, end; begin < ragged.steps; begin = end) {
      const Int wanted = ragged.rows * (Int(all_.size()) + 1) / count;
      for (end = begin + 1; end < ragged.steps; ++end)
        if (steps ? end - begin >= steps : offsets[std::size_t(end)] >= wanted) break;
      add(ragged, begin, end, enough, threads);
    }
  }

  const std::vector<Stretch>& all() const { return all_; }
  const Stretch& longest() const { return all_[longest_]; }
  Int most_rows() const { return most_rows_; }  // of one thread

 private:
  void add(Stretch stretch) {
    if (all_.empty() || stretch.rows > longest().rows) longest_ = all_.size();
    all_.push_back(stretch);
  }

  void add(const Ragged& ragged, Int begin, Int end, Int enough, int threads) {
    const Int first = ragged.offsets[std::size_t(begin)], rows = ragged.offsets[std::size_t(end)] - first;
    Span span{end - begin};
    span.offsets = offsets_.data() + offsets_.size();  // reserved: it does not move
    for (Int t = begin; t <= end; ++t) offsets_.push_back(ragged.offsets[std::size_t(t)] - first);
    if (!ragged.flags.empty()) span.reset_flags = ragged.flags.data() + first;
    const Int parts = std::min<Int>(threads, ragged.B);
    span.bounds = bounds_.data() + bounds_.size();
    for (Int bound : partition(span.steps, ragged.B, span.offsets, int(parts))) bounds_.push_back(std::min(bound, span.offsets[1]));
    for (Int i = 0; i < parts; ++i) most_rows_ = std::max(most_rows_, span.bounds[i + 1] - span.bounds[i]);
    add({begin, first, rows, span, enough && rows >= enough * span.steps, int(parts)});
  }

  std::vector<Stretch> all_;
  std::size_t longest_ = 0;
  std::vector<Int> offsets_, bounds_;
  Int most_rows_ = 0;
};

// One call: the addresses of all arrays, and the steps on them.
class Cooking {
 public:
  // buffers: how many stretches an array that passes has room for, in turns.
  Cooking(const std::vector<RecipeArray>& arrays, Number number, const Isa& isa, const CallSize& size, const Stretches& stretches,
          const Ragged* ragged, Int buffers, bool reverse, int threads)
      : arrays_(arrays), number_(number), isa_(isa), element_(element_size(number)), size_(size), longest_(stretches.longest()),
        most_rows_(stretches.most_rows()), ragged_(ragged), buffers_(buffers), reverse_(reverse), threads_(threads),
        scratch_(block_size(arrays, Keeper::scratch, element_, size, longest_.rows * buffers)), now_(longest_) {
    now_.begin = now_.first = 0;
  }

  void place(const std::vector<std::uintptr_t>& given, std::uintptr_t kept, const std::uintptr_t* own) {
    Places in_scratch, in_kept;
    std::size_t next = 0;
    for (const RecipeArray& array : arrays_) {
      const Int bytes = array.width * rows_of(array, size_, longest_.rows * buffers_) * element_;
      switch (array.keeper) {
        case Keeper::given: base_.push_back(given[next++]); break;
        case Keeper::scratch: base_.push_back(std::uintptr_t(scratch_.get()) + std::uintptr_t(in_scratch.add(bytes))); break;
        case Keeper::kept: base_.push_back(kept + std::uintptr_t(in_kept.add(bytes))); break;
        case Keeper::own: base_.push_back(*own++); break;
      }
    }
  }

  // What follows is of these steps.
  void turn_to(const Stretch& stretch, Int turn) { now_ = stretch, now_.turn = turn; }

  // For the stretches that are like that of now.
  std::unique_ptr<Stream> stream(const KernelStep& step) {
    const Span& span = longest_.span;
    const Stretch now = now_;
    now_.first = now_.turn = 0;
    Sequence sequence{span.steps, size_.B, span.offsets, reverse_ != step.backward, {}, {}, {}, {}, {}, {}, nullptr, ResetMode::none,
                      {}, threads_, most_rows_};
    if (step.all_rows && !now_.by_batch) {
      cut(step, longest_.rows);
      sequence.steps = Int(offsets_.size()) - 1, sequence.batch = together(step), sequence.reverse = false;
      sequence.offsets = offsets_.data(), sequence.most_rows = 0;
    }
    if (!step.rest.empty() && span.reset_flags) {
      sequence.reset_flags = span.reset_flags, sequence.reset_mode = step.backward ? ResetMode::flush : ResetMode::load;
      for (int i : step.rest) sequence.reset.push_back(base(i));
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
    now_ = now;
    return step.kernel->stream(std::move(sequence));
  }

  void run(const RecipeStep& step) const {
    if (step.kind == RecipeStep::Kind::start) run(step.start);
    else if (step.kind == RecipeStep::Kind::unsort) run(step.unsort);
    else run(step.join);
  }

  void run(const KernelStep& step, Stream& stream) {
    addresses_.clear();
    add_addresses(step, addresses_);
    const std::uintptr_t *in = addresses_.data(), *out = in + step.in.size();
    if (!step.all_rows || now_.by_batch) {
      Span span = now_.span;
      if (!stream.parts()) span.bounds = nullptr;
      return stream.run(span, in, out);
    }
    cut(step, now_.rows);
    stream.run(Int(offsets_.size()) - 1, offsets_.data(), in, out);
  }

  // Of its inputs, then of its outputs.
  void add_addresses(const KernelStep& step, std::vector<std::uintptr_t>& addresses) const {
    for (const auto* operands : {&step.in, &step.out})
      for (const Operated& operand : *operands) addresses.push_back(at(operand));
  }
  const Stretch& now() const { return now_; }

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
    return make_sums(number_, isa_, longest_.rows, jobs, threads_);
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

  void run(const Start& start) const {
    const RecipeArray& to = arrays_[std::size_t(start.to)];
    const Int row = to.width * element_, size = size_.B * row;
    const bool behind = to.extent == Extent::history && reverse_;
    char* memory = reinterpret_cast<char*>(base(start.to)) + (behind ? size_.T * size : 0);
    const char* from = start.from < 0 ? nullptr : reinterpret_cast<const char*>(base(start.from));
    const Int rows = to.extent == Extent::rows ? rows_of(to, size_, longest_.rows * buffers_) : size_.B;
    if (!from) std::memset(memory, 0, std::size_t(rows * row));
    else if (ragged_ && to.extent == Extent::batch)
      for (Int r = 0; r < size_.B; ++r) std::memcpy(memory + r * row, from + ragged_->order[std::size_t(r)] * row, std::size_t(row));
    else
      for (Int done = 0; done < rows; done += size_.B, memory += size) std::memcpy(memory, from, std::size_t(size));
  }

  // A batch in the caller's order.
  void run(const Unsort& unsort) const {
    const Int row = width(unsort.from) * element_;
    for (Int r = 0; r < size_.B; ++r)
      std::memcpy(reinterpret_cast<char*>(base(unsort.to)) + ragged_->order[std::size_t(r)] * row,
                  reinterpret_cast<const char*>(base(unsort.from)) + r * row, std::size_t(row));
  }

  // Rows [first, last) of each step of now, from the caller's places or to them.
  void move(const Move& move, const Stretch& now, Int first, Int last) const {
    const RecipeArray& outside = arrays_[std::size_t(move.outside)];
    const Int row = outside.width * element_;
    char* far = reinterpret_cast<char*>(base(move.outside));
    for (Int t = 0; t < now.span.steps; ++t) {
      const Int begin = now.span.offsets[t] + first, end = std::min(now.span.offsets[t] + last, now.span.offsets[t + 1]);
      char* near = reinterpret_cast<char*>(base(move.rows)) + (before(move.rows, now) + begin) * row;
      const Int* places = ragged_->index.data() + now.first;
      for (Int i = begin; i < end; ++i, near += row) {
        char* there = far + (outside.extent == Extent::batch ? i - now.span.offsets[t] : places[i]) * row;
        if (move.out) copy(near, there, row);
        else if (far) copy(there, near, row);
        else std::memset(near, 0, std::size_t(row));
      }
    }
  }

  // Zeros where no step is taken.
  void clear_holes(const Move& move) const {
    constexpr Int worth_a_thread = 1 << 16;
    const Int row = width(move.outside) * element_, count = Int(ragged_->holes.size());
    char* memory = reinterpret_cast<char*>(base(move.outside));
    const int parts = int(std::clamp<Int>((size_.T * size_.B - size_.rows) * row / worth_a_thread, 1, threads_));
    in_parallel(parts, [&](int part) {
      for (Int i = count * part / parts; i < count * (part + 1) / parts; ++i) {
        const auto [begin, end] = ragged_->holes[std::size_t(i)];
        std::memset(memory + begin * row, 0, std::size_t((end - begin) * row));
      }
    });
  }

  void run(const Join& join) const {
    join_numbers(base(join.from), base(join.to) + std::uintptr_t(join.begin * element_), width(join.from), join.adds, element_);
  }

 private:
  // Bytes from the first column to the first that is summed.
  std::uintptr_t behind(const RecipeSum& sum) const { return std::uintptr_t(sum.begin * element_); }

  Int width(int array) const { return arrays_[std::size_t(array)].width; }
  std::uintptr_t base(int array) const { return base_[std::size_t(array)]; }
  // Where the steps of now begin.
  std::uintptr_t at(const Operated& operand) const {
    const bool behind = operand.moment != Moment::plain && (operand.moment == Moment::after) != reverse_;
    const Int rows = before(operand.array, now_) + (behind ? size_.B : 0);
    return base(operand.array) + std::uintptr_t(rows * width(operand.array) * element_);
  }
  // Rows of an array before those of a stretch.
  Int before(int array, const Stretch& now) const {
    return is_passing(arrays_[std::size_t(array)]) ? now.turn % buffers_ * longest_.rows : now.first;
  }

  // Whole elements of 4 bytes.
  static void copy(const char* from, char* to, Int bytes) { std::memcpy(to, from, std::size_t(bytes)); }

  // Rows that are taken at once by all threads.
  Int together(const KernelStep& step) const {
    return step.block ? std::min(step.block * threads_, longest_.rows) : longest_.rows;
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
  Int element_;
  CallSize size_;
  Stretch longest_;
  Int most_rows_;
  const Ragged* ragged_;
  Int buffers_;
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
    runs_.push_back({&stream, cooking.now(), addresses_.size(), addresses_.size() + step.in.size(), nullptr});
    cooking.add_addresses(step, addresses_);
  }
  void add(const Cooking& cooking, const Move& move) { runs_.push_back({nullptr, cooking.now(), 0, 0, &move}), cooking_ = &cooking; }
  // To be done in the next region.
  void add(const Cooking& cooking, const std::vector<RecipeSum>& sums, Sums& on) {
    later_.sums.push_back({&on, cooking.now().rows, later_.read.size(), cooking.now().turn > 0});
    cooking.add_addresses(sums, later_.read);
  }

  void run() {
    int parts = 0;
    for (const Run& run : runs_) parts = std::max(parts, run.parts());
    for (const Summing& some : now_.sums) parts = std::max(parts, some.sums->parts());
    if (parts) in_parallel(parts, [&](int part) { run_part(part); });
    runs_.clear(), addresses_.clear(), now_.clear();
    std::swap(now_, later_);
  }

 private:
  struct Run {
    Stream* stream;  // null: a move
    Stretch now;
    std::size_t in, out;
    const Move* move;

    int parts() const { return stream ? stream->parts() : now.parts; }
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
    for (const Run& run : runs_) {
      const Int* bounds = run.now.span.bounds;
      if (part >= run.parts()) continue;
      if (run.stream) run.stream->run_part(part, run.now.span, addresses_.data() + run.in, addresses_.data() + run.out);
      else cooking_->move(*run.move, run.now, bounds[part], bounds[part + 1]);
    }
  }

  const Cooking* cooking_ = nullptr;

  std::vector<Run> runs_;
  std::vector<std::uintptr_t> addresses_;
  Summings now_, later_;
};

}  // namespace elman
