#include "prepared.h"

#include <algorithm>
#include <cstring>

#include "cooking.h"
#include "reader.h"

namespace elman {

namespace {

// Rows that sections for all rows take at once, where it is not said, and from how many on a thread is worth its waking.
constexpr Int rows_at_once = 256, rows_worth_a_thread = 16;

char* memory(std::uintptr_t address) { return reinterpret_cast<char*>(address); }

// Whether it lies where it lay at the first run.
bool is_fixed(const RecipeArray& array) {
  return array.extent == Extent::batch || (array.extent == Extent::one && array.keeper != Keeper::given);
}

}  // namespace

Prepared::Prepared(const Recipe& recipe, Int B, bool reverse, const std::vector<std::uintptr_t>& given, int threads)
    : recipe_(recipe), element_(element_size(recipe.number_)), B_(B), reverse_(reverse) {
  if (B < 1 || B > largest || threads < 1) refuse("B = " + text(B) + ", threads = " + text(threads) + ", expected 1 or more");
  check();
  const Int about = recipe.rows_of_a_stretch();
  most_steps_ = about ? std::max<Int>(about / B, 1) : largest;
  place_fixed(given);
  for (const RecipeStep& step : recipe.before_)
    if (step.kind == RecipeStep::Kind::join) {
      const Join& join = step.join;
      join_numbers(base(join.from), base(join.to) + std::uintptr_t(join.begin * element_), array(join.from).width, join.adds, element_);
    }
  for (const RecipeStep& step : recipe.steps_) {
    const Int block = step.kernel.block, room = block ? block * threads : rows_at_once;
    pieces_.push_back({&step.kernel, room, stream(step.kernel, room, threads)});
  }
}

void Prepared::check() const {
  if (recipe_.moves_ || recipe_.keeps_ || recipe_.block_ >= 0 || recipe_.sums_last_ || recipe_.backward_ || !recipe_.after_.empty())
    refuse("a recipe that is no plain forward call");
  for (const RecipeStep& step : recipe_.steps_)
    if (step.kind != RecipeStep::Kind::kernel || !step.kernel.rest.empty()) refuse("a step that is no kernel, or one with resets");
  for (const RecipeArray& array : recipe_.arrays_) {
    const bool made = array.keeper == Keeper::own;
    if (array.extent == Extent::padded || (made && (array.extent == Extent::one || array.extent == Extent::history)))
      refuse("an array that no forward call of all rows makes");
  }
}

void Prepared::place_fixed(const std::vector<std::uintptr_t>& given) {
  Places places;
  std::vector<Int> begins;
  for (const RecipeArray& array : recipe_.arrays_) {
    const Int bytes = array.width * (array.extent == Extent::batch ? B_ : 1) * element_;
    begins.push_back(is_fixed(array) ? places.add(bytes) : 0);
    givens_ += array.keeper == Keeper::given, owns_ += array.keeper == Keeper::own;
  }
  if (given.size() != givens_) refuse(text(Int(given.size())) + " given arrays, expected " + text(Int(givens_)));
  fixed_ = std::make_unique<Buffer<char>>(places.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < recipe_.arrays_.size(); ++i) {
    const RecipeArray& array = recipe_.arrays_[i];
    const std::uintptr_t address = array.keeper == Keeper::given ? given[next++] : 0;
    base_.push_back(is_fixed(array) ? std::uintptr_t(fixed_->get() + begins[i]) : address);
    if (array.keeper == Keeper::given && array.extent == Extent::one && !address) refuse("array " + text(Int(i)) + " is not given");
  }
}

// The memory of rows is that of each run; here it is some of the right size, which the kernel's checks are told of.
std::unique_ptr<Stream> Prepared::stream(const KernelStep& step, Int room, int threads) const {
  const bool all = step.all_rows;
  Sequence sequence{all ? 1 : 2, all ? room : B_, nullptr, !all && reverse_, {}, {}, {}, {}, {}, {}, nullptr, ResetMode::none, {},
                    threads, all ? room : 0};
  const Int rows = sequence.steps * sequence.batch;
  Places places;
  std::vector<Int> begins;
  for (const auto* operands : {&step.in, &step.out})
    for (const Operated& operand : *operands) begins.push_back(places.add(rows * row_bytes(operand.array)));
  const Buffer<char> some(places.size());
  auto begin = begins.begin();
  for (const Operated& in : step.in) sequence.in.push_back({std::uintptr_t(some.get() + *begin++), array(in.array).width});
  for (std::size_t i = 0; i < step.out.size(); ++i) sequence.out.push_back(std::uintptr_t(some.get() + *begin++));
  for (int i : step.ctx) sequence.ctx.push_back(base_[std::size_t(i)]);
  for (int i : step.vec) sequence.vec.push_back(base_[std::size_t(i)]);
  for (int i : step.carry) sequence.carry.push_back(base_[std::size_t(i)]);
  for (const RecipeWeight& weight : step.weights) sequence.weights.push_back({base_[std::size_t(weight.array)], weight.stride_k, weight.stride_n});
  return step.kernel->stream(std::move(sequence));
}

// steps: of the longest stretch.
void Prepared::make_room(Int T, Int steps) {
  if (passing_ && steps <= room_steps_ && T <= room_T_) return;
  room_steps_ = std::max(room_steps_, steps), room_T_ = std::max(room_T_, T);
  Places places;
  std::vector<std::pair<std::size_t, Int>> begins;
  for (std::size_t i = 0; i < recipe_.arrays_.size(); ++i) {
    const RecipeArray& array = recipe_.arrays_[i];
    if (array.keeper != Keeper::scratch || is_fixed(array)) continue;
    const Int rows = B_ * (array.extent == Extent::history ? room_T_ + 1 : room_steps_);
    begins.push_back({i, places.add(rows * array.width * element_)});
  }
  passing_ = std::make_unique<Buffer<char>>(places.size());
  for (const auto& [i, begin] : begins) base_[i] = std::uintptr_t(passing_->get() + begin);
}

void Prepared::start(const Start& start, Int T, Int steps) {
  const Extent extent = array(start.to).extent;
  const Int size = B_ * row_bytes(start.to);
  char* to = memory(base(start.to)) + (extent == Extent::history && reverse_ ? T * size : 0);
  for (Int k = 0; k < (extent == Extent::rows ? steps : 1); ++k, to += size)
    if (start.from < 0) std::memset(to, 0, std::size_t(size));
    else std::memcpy(to, memory(base(start.from)), std::size_t(size));
}

std::uintptr_t Prepared::at(const Operated& operand, Int begin) {
  const bool behind = operand.moment != Moment::plain && (operand.moment == Moment::after) != reverse_;
  const Int steps = (is_passing(array(operand.array)) ? 0 : begin) + behind;
  return base(operand.array) + std::uintptr_t(steps * B_ * row_bytes(operand.array));
}

void Prepared::run(Piece& piece, Int begin, Int steps) {
  const KernelStep& step = *piece.step;
  addresses_.clear();
  for (const auto* operands : {&step.in, &step.out})
    for (const Operated& operand : *operands) addresses_.push_back(at(operand, begin));
  const std::uintptr_t *in = addresses_.data(), *out = in + step.in.size();
  if (!step.all_rows) return piece.stream->run(Span{steps}, in, out);
  const Int rows = steps * B_, at_once = std::min(rows, piece.room);
  offsets_.clear(), bounds_.clear();
  for (Int row = 0; row < rows; row += at_once) offsets_.push_back(row);
  offsets_.push_back(rows);
  Span span{Int(offsets_.size()) - 1, offsets_.data()};
  const int parts = piece.stream->parts();
  if (parts < 2) return piece.stream->run(span, in, out);
  const bool alone = at_once < rows_worth_a_thread * parts;
  for (int i = 0; i <= parts; ++i) bounds_.push_back(alone ? (i ? at_once : 0) : at_once * i / parts);
  span.bounds = bounds_.data();
  if (alone) piece.stream->run_part(0, span, in, out);
  else piece.stream->run(span, in, out);
}

void Prepared::run(Int T, const std::uintptr_t* given, const std::uintptr_t* own) {
  if (T < 1 || T > largest) refuse("T = " + text(T) + ", expected 1 or more");
  const Int count = (T + most_steps_ - 1) / most_steps_, longest = (T + count - 1) / count;
  make_room(T, longest);
  const std::uintptr_t* results = own;
  for (std::size_t i = 0; i < base_.size(); ++i) {
    const RecipeArray& array = recipe_.arrays_[i];
    if (array.keeper == Keeper::own) {
      if (const std::uintptr_t address = *own++; array.extent == Extent::rows) base_[i] = address;
    }
    if (array.keeper != Keeper::given) continue;
    const std::uintptr_t address = *given++;
    const std::size_t bytes = std::size_t(B_ * array.width * element_);
    if (array.extent == Extent::rows) base_[i] = address;
    else if (array.extent == Extent::batch && address) std::memcpy(memory(base_[i]), memory(address), bytes);
    else if (array.extent == Extent::batch) std::memset(memory(base_[i]), 0, bytes);
  }
  for (const RecipeStep& step : recipe_.before_)
    if (step.kind == RecipeStep::Kind::start) start(step.start, T, longest);
  for (Int k = 0; k < count; ++k) {
    const Int i = reverse_ ? count - 1 - k : k, begin = T * i / count;
    for (Piece& piece : pieces_) run(piece, begin, T * (i + 1) / count - begin);
  }
  for (std::size_t i = 0; i < base_.size(); ++i) {
    const RecipeArray& array = recipe_.arrays_[i];
    if (array.keeper != Keeper::own) continue;
    const std::uintptr_t address = *results++;
    if (array.extent == Extent::batch) std::memcpy(memory(address), memory(base_[i]), std::size_t(B_ * array.width * element_));
  }
}

}  // namespace elman
