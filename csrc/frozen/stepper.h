// A model run one step at a time on a batch of rows; all memory is taken when it is made.
#pragma once

#include <memory>
#include <vector>

#include "frozen/model.h"

namespace elman::frozen {

class Stepper {
 public:
  // Throws Refusal for a model that cannot be stepped, std::bad_alloc.
  Stepper(std::shared_ptr<const Model> model, Int batch);

  const Model& model() const { return *model_; }
  Int batch() const { return batch_; }

  // One pointer for each input and output. Throws Refusal; the state is as before then.
  void step(const void* const* xs, void* const* ys) { run(batch_, nullptr, xs, ys); }
  void step_rows(Int count, const Int* rows, const void* const* xs, void* const* ys);
  void set_context(const void* const* contexts);
  void* state(std::size_t i) const { return states_[i]->get(); }
  char* state_row(std::size_t i, Int row) const { return states_[i]->get() + row * model_->states[i].row_bytes(); }
  void reset(const unsigned char* rows);

 private:
  using Bytes = std::unique_ptr<Buffer<char>>;
  struct Run {  // of one kernel
    const KernelStage* stage;
    std::unique_ptr<elman::Stream> stream;
    std::vector<std::uintptr_t> in, out;
  };

  Run make_run(const KernelStage& stage);
  void check_tokens(Int rows, const void* const* xs) const;
  void run(Int rows, const Int* offsets, const void* const* xs, void* const* ys);
  void exchange(Int count, const Int* rows, bool forth);

  std::shared_ptr<const Model> model_;
  Int batch_;
  bool has_context_, has_tokens_ = false;
  std::vector<Bytes> memory_, states_;
  std::vector<Bytes> fronts_, chosen_;  // of the states, while chosen rows stand in front
  std::vector<Bytes> contexts_, own_contexts_;  // as the kernels see them, and of each row
  std::vector<char*> at_;  // of each array in this step
  std::vector<Run> runs_;  // one for each kernel that is no context's
  std::vector<Run> context_runs_;
  std::vector<bool> seen_;  // rows that are chosen
};

}  // namespace elman::frozen
