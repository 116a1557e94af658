#include "frozen/whole.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "frozen/refusal.h"
#include "frozen/rows.h"

namespace elman::frozen {

namespace {

using Bytes = std::unique_ptr<Buffer<char>>;

std::uintptr_t address(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

// The rows sorted by their lengths, longest first, and where each step of them lies; all as they come where they are of
// one length.
class Order {
 public:
  explicit Order(const elman_sequence& given) : batch_(given.batch), rows_(std::size_t(given.batch)) {
    std::iota(rows_.begin(), rows_.end(), Int(0));
    const Int* lengths = given.lengths;
    if (!lengths || std::all_of(lengths, lengths + batch_, [&](Int n) { return n == given.steps; })) {
      layout_ = {given.steps, batch_, nullptr};
      return;
    }
    std::stable_sort(rows_.begin(), rows_.end(), [&](Int a, Int b) { return lengths[a] > lengths[b]; });
    offsets_.push_back(0);
    for (Int t = 0; t < given.steps; ++t)
      offsets_.push_back(offsets_.back() + std::count_if(lengths, lengths + batch_, [&](Int n) { return n > t; }));
    layout_ = {given.steps, batch_, offsets_.data()};
  }
  Order(const Order&) = delete;

  const Layout& layout() const { return layout_; }
  bool sorted() const { return layout_.offsets != nullptr; }

  // Steps (steps, batch, width) of the caller -> packed, and back with zeros where a row has ended.
  void steps_in(char* to, const char* from, std::size_t bytes) const {
    each_step([&](Int packed, Int own) { std::memcpy(to + std::size_t(packed) * bytes, from + std::size_t(own) * bytes, bytes); });
  }
  void steps_out(char* to, const char* from, std::size_t bytes) const {
    std::memset(to, 0, bytes * std::size_t(layout_.steps * batch_));
    each_step([&](Int packed, Int own) { std::memcpy(to + std::size_t(own) * bytes, from + std::size_t(packed) * bytes, bytes); });
  }
  void rows_in(char* to, const char* from, std::size_t bytes) const {
    for (Int r = 0; r < batch_; ++r) std::memcpy(to + std::size_t(r) * bytes, from + std::size_t(rows_[std::size_t(r)]) * bytes, bytes);
  }
  void rows_out(char* to, const char* from, std::size_t bytes) const {
    for (Int r = 0; r < batch_; ++r) std::memcpy(to + std::size_t(rows_[std::size_t(r)]) * bytes, from + std::size_t(r) * bytes, bytes);
  }

 private:
  template <class F> void each_step(F&& f) const {
    for (Int t = 0; t < layout_.steps; ++t)
      for (Int r = 0; r < layout_.active(t); ++r) f(layout_.first(t) + r, t * batch_ + rows_[std::size_t(r)]);
  }

  Int batch_;
  std::vector<Int> rows_, offsets_;
  Layout layout_;
};

class Whole {
 public:
  Whole(const Model& model, const elman_sequence& given)
      : model_(model), given_(given), order_(given), at_(model.arrays.size()) {
    place_arrays();
    place_states();
  }

  void run() {
    for (const Stage& stage : model_.stages) {
      if (const auto* kernel = std::get_if<KernelStage>(&stage)) run_kernel(*kernel);
      else if (const auto* table = std::get_if<LookUp>(&stage)) look_up(model_, *table, rows(table->in), at(table->in), at(table->out));
      else if (const auto* ends = std::get_if<Affixes>(&stage)) affixes(model_, *ends, rows(ends->in), at(ends->in), at(ends->out));
      else if (const auto* words = std::get_if<Spell>(&stage)) spell(model_, *words, rows(words->in), std::max(given_.threads, 1), at(words->in), at(words->out));
      else if (const auto* numbers = std::get_if<Convert>(&stage)) convert(model_, *numbers, rows(numbers->in), at(numbers->in), at(numbers->out));
      else run_pool(std::get<Pool>(stage));
    }
    hand_out();
  }

 private:
  char* at(int array) const { return at_[std::size_t(array)]; }
  Int rows(int array) const { return model_.arrays[std::size_t(array)].per_sequence ? given_.batch : order_.layout().rows(); }
  char* take(Int bytes) {
    memory_.push_back(std::make_unique<Buffer<char>>(bytes));
    return memory_.back()->get();
  }

  void place_arrays() {
    for (std::size_t i = 0; i < model_.inputs.size(); ++i) {
      const int array = model_.inputs[i];
      const char* from = static_cast<const char*>(given_.x[i]);
      if (order_.sorted()) {
        const Int bytes = model_.arrays[std::size_t(array)].row_bytes();
        order_.steps_in(at_[std::size_t(array)] = take(rows(array) * bytes), from, std::size_t(bytes));
      } else {
        at_[std::size_t(array)] = const_cast<char*>(from);
      }
    }
    if (!order_.sorted())
      for (std::size_t i = 0; i < model_.outputs.size(); ++i) at_[std::size_t(model_.outputs[i])] = static_cast<char*>(given_.y[i]);
    for (std::size_t i = 0; i < at_.size(); ++i)
      if (!at_[i]) at_[i] = take(rows(int(i)) * model_.arrays[i].row_bytes());
    for (const Stage& stage : model_.stages) {
      const auto check = [&](const auto& of) {
        if (std::find(model_.inputs.begin(), model_.inputs.end(), of.in) != model_.inputs.end())
          check_numbers(model_, of, rows(of.in), at(of.in));
      };
      if (const auto* table = std::get_if<LookUp>(&stage)) check(*table);
      else if (const auto* ends = std::get_if<Affixes>(&stage)) check(*ends);
      else if (const auto* words = std::get_if<Spell>(&stage)) check(*words);
    }
  }

  void place_states() {
    const Int batch = given_.batch;
    for (std::size_t i = 0; i < model_.states.size(); ++i) {
      const StateInfo& info = model_.states[i];
      const std::size_t bytes = std::size_t(info.row_bytes());
      char* state = take(batch * info.row_bytes());
      states_.push_back(state);
      if (given_.initial) order_.rows_in(state, static_cast<const char*>(given_.initial[i]), bytes);
      else if (!info.initial) std::memset(state, 0, bytes * std::size_t(batch));
      else
        for (Int r = 0; r < batch; ++r) std::memcpy(state + std::size_t(r) * bytes, info.initial, bytes);
    }
    for (const ArrayInfo& info : model_.contexts) contexts_.push_back(take(batch * info.row_bytes()));
    for (std::size_t i = 0; i < model_.given_contexts.size(); ++i) {
      const std::size_t c = std::size_t(model_.given_contexts[i]);
      order_.rows_in(contexts_[c], static_cast<const char*>(given_.context[i]), std::size_t(model_.contexts[c].row_bytes()));
    }
  }

  void run_kernel(const KernelStage& stage) {
    const bool once = stage.of_context || stage.per_sequence;
    const Layout& layout = order_.layout();
    Sequence sequence{once ? 1 : layout.steps, given_.batch, once ? nullptr : layout.offsets, stage.reverse, {}, {}, stage.vectors,
                      {}, {}, stage.weights, nullptr, ResetMode::none, {}, std::max(given_.threads, 1)};
    const auto& memory = stage.of_context ? contexts_ : at_;
    for (int i : stage.ins) {
      const Int width = stage.of_context ? model_.contexts[std::size_t(i)].width : model_.arrays[std::size_t(i)].width;
      sequence.in.push_back({address(memory[std::size_t(i)]), width});
    }
    for (int i : stage.outs) sequence.out.push_back(address(memory[std::size_t(i)]));
    for (int i : stage.contexts) sequence.ctx.push_back(address(contexts_[std::size_t(i)]));
    for (int i : stage.states) sequence.carry.push_back(address(states_[std::size_t(i)]));
    stage.kernel->run(sequence);
  }

  void run_pool(const Pool& stage) {
    pool(model_, stage, order_.layout(), at(stage.in), stage.scores < 0 ? nullptr : at(stage.scores), at(stage.out));
  }

  void hand_out() const {
    for (std::size_t i = 0; i < model_.outputs.size(); ++i) {
      const ArrayInfo& info = model_.arrays[std::size_t(model_.outputs[i])];
      const char* from = at(model_.outputs[i]);
      char* to = static_cast<char*>(given_.y[i]);
      const std::size_t bytes = std::size_t(info.row_bytes());
      if (order_.sorted()) info.per_sequence ? order_.rows_out(to, from, bytes) : order_.steps_out(to, from, bytes);
      else if (to != from) std::memcpy(to, from, bytes * std::size_t(rows(model_.outputs[i])));  // one array, two outputs
    }
    if (given_.final)
      for (std::size_t i = 0; i < states_.size(); ++i)
        order_.rows_out(static_cast<char*>(given_.final[i]), states_[i], std::size_t(model_.states[i].row_bytes()));
  }

  const Model& model_;
  const elman_sequence& given_;
  Order order_;
  std::vector<Bytes> memory_;
  std::vector<char*> at_, states_, contexts_;
};

}  // namespace

void run_whole(const Model& model, const elman_sequence& given) { Whole(model, given).run(); }

}  // namespace elman::frozen
