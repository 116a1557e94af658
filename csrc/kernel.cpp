#include "kernel.h"

#include <atomic>
#include <utility>

#include "reader.h"
#include "run.h"

namespace elman {

namespace {

std::atomic<bool> poison{false}, always_columns{false};

template <class T> void run_sequence(const Program& program, const Engine<T>& engine, const Sequence& sequence) {
  const bool may_link = !sequence.offsets && sequence.reset_mode == ResetMode::none;
  Team<T>(program, engine, sequence, may_link).run();
}

template <class T> class TeamStream : public Stream {
 public:
  TeamStream(const Program& program, const Engine<T>& engine, Sequence sequence)
      : sequence_(std::move(sequence)), team_(program, engine, sequence_, may_link(sequence_)) {
    sequence_.offsets = nullptr;
  }

  using Stream::run;
  void run(const Span& span, const std::uintptr_t* in, const std::uintptr_t* out) override {
    sequence_.steps = span.steps, sequence_.offsets = span.offsets, sequence_.reset_flags = span.reset_flags;
    team_.run_on(span.bounds, in, out);
  }

  int parts() const override { return team_.parts(); }
  void run_part(int part, const Span& span, const std::uintptr_t* in, const std::uintptr_t* out) override {
    team_.run_part(part, span, in, out);
  }

  void step(const std::uintptr_t* in, std::size_t ins, const std::uintptr_t* out, std::size_t outs) override {
    if (ins != sequence_.in.size() || outs != sequence_.out.size())
      refuse("a step on " + text(Int(ins)) + " inputs and " + text(Int(outs)) + " outputs, expected " +
             text(Int(sequence_.in.size())) + " and " + text(Int(sequence_.out.size())));
    run(1, nullptr, in, out);
  }

 private:
  static bool may_link(const Sequence& sequence) {
    return sequence.steps > 1 && !sequence.offsets && sequence.reset_mode == ResetMode::none;
  }

  Sequence sequence_;
  Team<T> team_;
};

}  // namespace

void set_poison(bool on) { poison = on; }
bool is_poisoned() { return poison; }
void share_columns(bool always) { always_columns = always; }
bool always_shares_columns() { return always_columns; }

Kernel::Kernel(Number number, const Spec& spec, const Isa& isa) : number_(number), isa_(isa), program_(parse(spec)) {
  schedule(program_, element_size(number));
}

void Kernel::run(const Sequence& sequence) const {
  if (!check_sequence(program_, sequence, element_size(number_))) return;
  if (number_ == Number::f32) run_sequence(program_, engine_of<float>(isa_), sequence);
  else run_sequence(program_, engine_of<double>(isa_), sequence);
}

std::unique_ptr<Stream> Kernel::stream(Sequence sequence) const {
  if (!check_sequence(program_, sequence, element_size(number_))) refuse("a stream of no rows");
  if (number_ == Number::f32)
    return std::make_unique<TeamStream<float>>(program_, engine_of<float>(isa_), std::move(sequence));
  return std::make_unique<TeamStream<double>>(program_, engine_of<double>(isa_), std::move(sequence));
}

}  // namespace elman
