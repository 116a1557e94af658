#include "frozen/stepper.h"

#include <algorithm>
#include <cstring>

#include "frozen/refusal.h"
#include "frozen/rows.h"

namespace elman::frozen {

namespace {

std::uintptr_t address(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

std::vector<std::unique_ptr<Buffer<char>>> made_for(const auto& infos, Int batch) {
  std::vector<std::unique_ptr<Buffer<char>>> made;
  for (const auto& info : infos) {
    made.push_back(std::make_unique<Buffer<char>>(batch * info.row_bytes()));
    std::memset(made.back()->get(), 0, std::size_t(batch * info.row_bytes()));
  }
  return made;
}

}  // namespace

Stepper::Stepper(std::shared_ptr<const Model> model, Int batch)
    : model_(std::move(model)), batch_(batch), has_context_(model_->given_contexts.empty()), memory_(made_for(model_->arrays, batch)),
      states_(made_for(model_->states, batch)), fronts_(made_for(model_->states, batch)), chosen_(made_for(model_->states, batch)),
      contexts_(made_for(model_->contexts, batch)), own_contexts_(made_for(model_->contexts, batch)), at_(model_->arrays.size()),
      seen_(std::size_t(batch)) {
  if (!model_->can_step)
    throw Refusal(ELMAN_UNFIT, "this model needs whole sequences (a direction begins at their end, or the answer is one for all "
                               "steps): take elman_run");
  for (const Stage& stage : model_->stages)
    if (const auto* kernel = std::get_if<KernelStage>(&stage)) (kernel->of_context ? context_runs_ : runs_).push_back(make_run(*kernel));
  for (std::size_t i = 0; i < at_.size(); ++i) at_[i] = memory_[i]->get();
  for (const Stage& stage : model_->stages)
    if (std::holds_alternative<LookUp>(stage) || std::holds_alternative<Affixes>(stage)) has_tokens_ = true;
  reset(nullptr);
}

Stepper::Run Stepper::make_run(const KernelStage& stage) {
  Sequence sequence{1, batch_, nullptr, false, {}, {}, stage.vectors, {}, {}, stage.weights, nullptr, ResetMode::none, {}, 1};
  Run run{&stage, nullptr, {}, {}};
  const auto& memory = stage.of_context ? contexts_ : memory_;
  for (int i : stage.ins) {
    const Int width = stage.of_context ? model_->contexts[std::size_t(i)].width : model_->arrays[std::size_t(i)].width;
    run.in.push_back(address(memory[std::size_t(i)]->get()));
    sequence.in.push_back({run.in.back(), width});
  }
  for (int i : stage.outs) run.out.push_back(address(memory[std::size_t(i)]->get()));
  sequence.out = run.out;
  for (int i : stage.contexts) sequence.ctx.push_back(address(contexts_[std::size_t(i)]->get()));
  for (int i : stage.states) sequence.carry.push_back(address(states_[std::size_t(i)]->get()));
  run.stream = stage.kernel->stream(std::move(sequence));
  return run;
}

// Before any work: a step that stopped half way would leave states of two steps.
void Stepper::check_tokens(Int rows, const void* const* xs) const {
  for (const Stage& stage : model_->stages) {
    const auto check = [&](const auto& of) {
      for (std::size_t i = 0; i < model_->inputs.size(); ++i)
        if (model_->inputs[i] == of.in) check_numbers(*model_, of, rows, xs[i]);
    };
    if (const auto* look_up = std::get_if<LookUp>(&stage)) check(*look_up);
    else if (const auto* ends = std::get_if<Affixes>(&stage)) check(*ends);
  }
}

void Stepper::run(Int rows, const Int* offsets, const void* const* xs, void* const* ys) {
  if (!has_context_) throw Refusal(ELMAN_UNFIT, "this model has a context, and none was given: call elman_set_context first");
  if (has_tokens_) check_tokens(rows, xs);
  // The other arrays are where they were.
  for (std::size_t i = 0; i < model_->inputs.size(); ++i)
    at_[std::size_t(model_->inputs[i])] = const_cast<char*>(static_cast<const char*>(xs[i]));
  for (std::size_t i = 0; i < model_->outputs.size(); ++i) at_[std::size_t(model_->outputs[i])] = static_cast<char*>(ys[i]);
  std::size_t next = 0;
  for (const Stage& stage : model_->stages) {
    if (const auto* kernel = std::get_if<KernelStage>(&stage)) {
      if (kernel->of_context) continue;
      Run& run = runs_[next++];
      for (std::size_t i = 0; i < run.in.size(); ++i) run.in[i] = address(at_[std::size_t(kernel->ins[i])]);
      for (std::size_t i = 0; i < run.out.size(); ++i) run.out[i] = address(at_[std::size_t(kernel->outs[i])]);
      run.stream->run(1, offsets, run.in.data(), run.out.data());
    } else if (const auto* table = std::get_if<LookUp>(&stage)) {
      look_up(*model_, *table, rows, at_[std::size_t(table->in)], at_[std::size_t(table->out)]);
    } else if (const auto* ends = std::get_if<Affixes>(&stage)) {
      affixes(*model_, *ends, rows, at_[std::size_t(ends->in)], at_[std::size_t(ends->out)]);
    } else if (const auto* numbers = std::get_if<Convert>(&stage)) {
      convert(*model_, *numbers, rows, at_[std::size_t(numbers->in)], at_[std::size_t(numbers->out)]);
    }
  }
  for (std::size_t i = 0; i < model_->outputs.size(); ++i) {  // one array may be two outputs
    const char* made = at_[std::size_t(model_->outputs[i])];
    if (made != ys[i]) std::memcpy(ys[i], made, std::size_t(rows * model_->arrays[std::size_t(model_->outputs[i])].row_bytes()));
  }
}

// The rows that take a step stand in front while they do: their states, and their contexts, change places with those
// that are there.
void Stepper::step_rows(Int count, const Int* rows, const void* const* xs, void* const* ys) {
  std::fill(seen_.begin(), seen_.end(), false);
  for (Int k = 0; k < count; ++k) {
    if (rows[k] < 0 || rows[k] >= batch_ || seen_[std::size_t(rows[k])])
      throw Refusal(ELMAN_BAD_ARGUMENT, "row " + std::to_string(rows[k]) + (rows[k] < 0 || rows[k] >= batch_ ? " is none of " + std::to_string(batch_) : " is given twice"));
    seen_[std::size_t(rows[k])] = true;
  }
  if (count == 0) return;
  if (!has_context_) throw Refusal(ELMAN_UNFIT, "this model has a context, and none was given: call elman_set_context first");
  check_tokens(count, xs);
  const Int offsets[2] = {0, count};
  exchange(count, rows, true);
  run(count, offsets, xs, ys);
  exchange(count, rows, false);
}

void Stepper::exchange(Int count, const Int* rows, bool forth) {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const std::size_t bytes = std::size_t(model_->states[i].row_bytes()), whole = bytes * std::size_t(count);
    char *state = states_[i]->get(), *front = fronts_[i]->get(), *chosen = chosen_[i]->get();
    if (forth) {
      for (Int k = 0; k < count; ++k) std::memcpy(chosen + std::size_t(k) * bytes, state + std::size_t(rows[k]) * bytes, bytes);
      std::memcpy(front, state, whole);
      std::memcpy(state, chosen, whole);
    } else {
      std::memcpy(chosen, state, whole);
      std::memcpy(state, front, whole);
      for (Int k = 0; k < count; ++k) std::memcpy(state + std::size_t(rows[k]) * bytes, chosen + std::size_t(k) * bytes, bytes);
    }
  }
  for (std::size_t i = 0; i < contexts_.size(); ++i) {
    const std::size_t bytes = std::size_t(model_->contexts[i].row_bytes()), whole = bytes * std::size_t(count);
    char *context = contexts_[i]->get(), *own = own_contexts_[i]->get();
    if (forth)
      for (Int k = 0; k < count; ++k) std::memcpy(context + std::size_t(k) * bytes, own + std::size_t(rows[k]) * bytes, bytes);
    else std::memcpy(context, own, whole);
  }
}

void Stepper::set_context(const void* const* given) {
  for (std::size_t i = 0; i < model_->given_contexts.size(); ++i) {
    const std::size_t c = std::size_t(model_->given_contexts[i]);
    std::memcpy(contexts_[c]->get(), given[i], std::size_t(batch_ * model_->contexts[c].row_bytes()));
  }
  for (Run& run : context_runs_) run.stream->run(1, nullptr, run.in.data(), run.out.data());
  for (std::size_t i = 0; i < contexts_.size(); ++i)
    std::memcpy(own_contexts_[i]->get(), contexts_[i]->get(), std::size_t(batch_ * model_->contexts[i].row_bytes()));
  has_context_ = true;
}

void Stepper::reset(const unsigned char* rows) {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const StateInfo& info = model_->states[i];
    for (Int r = 0; r < batch_; ++r) {
      if (rows && !rows[r]) continue;
      if (info.initial) std::memcpy(state_row(i, r), info.initial, std::size_t(info.row_bytes()));
      else std::memset(state_row(i, r), 0, std::size_t(info.row_bytes()));
    }
  }
}

}  // namespace elman::frozen
