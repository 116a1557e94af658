// elman.h, carried out: arguments checked, exceptions turned into codes and sentences.
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "elman.h"
#include "frozen/model.h"
#include "frozen/refusal.h"
#include "frozen/stepper.h"
#include "frozen/whole.h"
#include "isa.h"

#ifndef ELMAN_VERSION
#define ELMAN_VERSION "unknown"
#endif

using elman::Int;
using elman::frozen::ArrayInfo;
using elman::frozen::File;
using elman::frozen::Model;
using elman::frozen::Refusal;
using elman::frozen::Stepper;

struct elman_model {
  std::shared_ptr<const Model> model;
};

struct elman_stream {
  Stepper stepper;
};

namespace {

// Of a fixed length, so that to say that there is no memory needs none.
thread_local char error[512] = "";

// One line of UTF-8, whatever words of a file are in it, and wherever it was cut off.
void make_plain(char* text) noexcept {
  const auto follows = [](char byte) { return (byte & 0xc0) == 0x80; };
  while (*text) {
    const unsigned char first = static_cast<unsigned char>(*text);
    const int more = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first >> 4 == 0xe ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : -1;
    int seen = 0;
    while (seen < more && follows(text[1 + seen])) ++seen;
    if (first < ' ') *text = ' ';
    if (seen == more) text += 1 + more;
    else *text++ = '?';
  }
}

elman_status failed(elman_status status, const char* sentence) noexcept {
  std::strncpy(error, sentence, sizeof error - 1);
  make_plain(error);
  return status;
}

template <class F> elman_status guarded(F&& f) noexcept {
  try {
    f();
    return ELMAN_OK;
  } catch (const Refusal& refusal) {
    return failed(refusal.status(), refusal.what());
  } catch (const std::bad_alloc&) {
    return failed(ELMAN_NO_MEMORY, "there is not enough memory");
  } catch (const std::length_error&) {
    return failed(ELMAN_NO_MEMORY, "there is not enough memory");
  } catch (const std::invalid_argument& fault) {
    return failed(ELMAN_BAD_ARGUMENT, fault.what());
  } catch (const std::exception& fault) {
    return failed(ELMAN_INTERNAL, fault.what());
  } catch (...) {
    return failed(ELMAN_INTERNAL, "an unknown fault");
  }
}

[[noreturn]] void refuse(const std::string& sentence) { throw Refusal(ELMAN_BAD_ARGUMENT, sentence); }

void check(const void* pointer, const char* name) {
  if (!pointer) refuse(std::string(name) + " is a null pointer");
}

void check_aligned(const void* pointer, const ArrayInfo& info) {
  if (!pointer) refuse(info.name + " is a null pointer");
  if (reinterpret_cast<std::uintptr_t>(pointer) % std::uintptr_t(elman::frozen::size_of(info.type)))
    refuse(info.name + " is not aligned to its elements");
}

void check_all(const void* const* pointers, const std::vector<int>& which, const std::vector<ArrayInfo>& infos, const char* name) {
  if (which.empty()) return;
  check(pointers, name);
  for (std::size_t i = 0; i < which.size(); ++i) check_aligned(pointers[i], infos[std::size_t(which[i])]);
}

void check_index(Int index, std::size_t count, const char* what) {
  if (index < 0 || index >= Int(count))
    refuse(std::string(what) + " " + std::to_string(index) + " of " + std::to_string(count) + " is asked for");
}

void check_step(const elman_stream* stream, const void* const* xs, void* const* ys) {
  check(stream, "stream");
  const Model& model = stream->stepper.model();
  check_all(xs, model.inputs, model.arrays, "xs");
  check_all(const_cast<const void* const*>(ys), model.outputs, model.arrays, "ys");
}

template <class Load> elman_status load(elman_model** to, Load&& load) {
  return guarded([&] {
    check(to, "model");
    *to = new elman_model{std::make_shared<const Model>(load())};
  });
}

const ArrayInfo& info_of(const Model& model, elman_role role, Int index) {
  const auto picked = [&](const std::vector<int>& which, const std::vector<ArrayInfo>& infos, const char* what) -> const ArrayInfo& {
    check_index(index, which.size(), what);
    return infos[std::size_t(which[std::size_t(index)])];
  };
  if (role == ELMAN_INPUT) return picked(model.inputs, model.arrays, "input");
  if (role == ELMAN_OUTPUT) return picked(model.outputs, model.arrays, "output");
  if (role == ELMAN_CONTEXT) return picked(model.given_contexts, model.contexts, "context");
  if (role != ELMAN_STATE) refuse("role is " + std::to_string(int(role)) + ", expected 0..3");
  check_index(index, model.states.size(), "state");
  return model.states[std::size_t(index)];
}

void check_sequence(const Model& model, const elman_sequence& given) {
  constexpr Int most = Int(1) << 31;
  if (given.steps < 1 || given.batch < 1 || given.steps > most || given.batch > most)
    refuse("steps = " + std::to_string(given.steps) + ", batch = " + std::to_string(given.batch) + ", expected 1 or more");
  if (given.threads < 0) refuse("threads = " + std::to_string(given.threads) + ", expected 0 or more");
  for (Int r = 0; given.lengths && r < given.batch; ++r)
    if (given.lengths[r] < 0 || given.lengths[r] > given.steps)
      refuse("row " + std::to_string(r) + " has the length " + std::to_string(given.lengths[r]) + ", expected 0.." + std::to_string(given.steps));
  check_all(given.x, model.inputs, model.arrays, "x");
  check_all(const_cast<const void* const*>(given.y), model.outputs, model.arrays, "y");
  check_all(given.context, model.given_contexts, model.contexts, "context");
  for (std::size_t i = 0; i < model.states.size(); ++i) {
    if (given.initial) check_aligned(given.initial[i], model.states[i]);
    if (given.final) check_aligned(given.final[i], model.states[i]);
  }
}

}  // namespace

extern "C" {

const char* elman_version(void) { return ELMAN_VERSION; }

const char* elman_isa(void) {
  static const char* const name = [] {
    const char* wanted = std::getenv("ELMAN_ISA");
    for (const elman::Isa* isa : elman::available_isas())
      if (!wanted || !*wanted || std::strcmp(wanted, isa->name) == 0) return isa->name;
    return "";
  }();
  return name;
}

const char* elman_error(void) { return error; }

elman_status elman_load(const char* path, elman_model** model) {
  return load(model, [&] {
    check(path, "path");
    return File::read(path);
  });
}

elman_status elman_load_memory(const void* bytes, size_t size, elman_model** model) {
  return load(model, [&] {
    check(bytes, "bytes");
    return File::copy(bytes, size);
  });
}

void elman_free(elman_model* model) { delete model; }

int64_t elman_count(const elman_model* model, elman_role role) {
  if (!model) return -1;
  const Model& of = *model->model;
  switch (role) {
    case ELMAN_INPUT: return Int(of.inputs.size());
    case ELMAN_OUTPUT: return Int(of.outputs.size());
    case ELMAN_STATE: return Int(of.states.size());
    case ELMAN_CONTEXT: return Int(of.given_contexts.size());
  }
  return -1;
}

elman_status elman_describe(const elman_model* model, elman_role role, int64_t index, elman_array* array) {
  return guarded([&] {
    check(model, "model"), check(array, "array");
    const ArrayInfo& info = info_of(*model->model, role, index);
    *array = {info.name.c_str(), elman_type(info.type), info.width, int32_t(info.shape.size()), info.shape.data(), info.per_sequence};
  });
}

const char* elman_text(const elman_model* model, const char* key) {
  const std::string* text = model && key ? model->model->text(key) : nullptr;
  return text ? text->c_str() : nullptr;
}

int elman_can_step(const elman_model* model) { return model && model->model->can_step; }

elman_status elman_open(const elman_model* model, int64_t batch, elman_stream** stream) {
  return guarded([&] {
    check(model, "model"), check(stream, "stream");
    if (batch < 1 || batch > Int(1) << 31) refuse("batch = " + std::to_string(batch) + ", expected 1 or more");
    *stream = new elman_stream{Stepper(model->model, batch)};
  });
}

void elman_close(elman_stream* stream) { delete stream; }

elman_status elman_step(elman_stream* stream, const void* x, void* y) {
  return guarded([&] {
    check(stream, "stream");
    const Model& model = stream->stepper.model();
    if (model.inputs.size() != 1 || model.outputs.size() != 1)
      throw Refusal(ELMAN_UNFIT, "this model has " + std::to_string(model.inputs.size()) + " inputs and " +
                                     std::to_string(model.outputs.size()) + " outputs: take elman_step_all");
    check_step(stream, &x, &y);
    stream->stepper.step(&x, &y);
  });
}

elman_status elman_step_all(elman_stream* stream, const void* const* xs, void* const* ys) {
  return guarded([&] {
    check_step(stream, xs, ys);
    stream->stepper.step(xs, ys);
  });
}

elman_status elman_step_rows(elman_stream* stream, int64_t count, const int64_t* rows, const void* const* xs, void* const* ys) {
  return guarded([&] {
    check(stream, "stream");
    if (count < 0 || count > stream->stepper.batch())
      refuse("count = " + std::to_string(count) + ", expected 0.." + std::to_string(stream->stepper.batch()));
    if (count == 0) return;
    check(rows, "rows");
    check_step(stream, xs, ys);
    stream->stepper.step_rows(count, rows, xs, ys);
  });
}

elman_status elman_get_state(const elman_stream* stream, int64_t index, void* to) {
  return guarded([&] {
    check(stream, "stream"), check(to, "to");
    const Stepper& stepper = stream->stepper;
    check_index(index, stepper.model().states.size(), "state");
    std::memcpy(to, stepper.state(std::size_t(index)), std::size_t(stepper.batch() * stepper.model().states[std::size_t(index)].row_bytes()));
  });
}

elman_status elman_set_state(elman_stream* stream, int64_t index, const void* from) {
  return guarded([&] {
    check(stream, "stream"), check(from, "from");
    const Stepper& stepper = stream->stepper;
    check_index(index, stepper.model().states.size(), "state");
    std::memcpy(stepper.state(std::size_t(index)), from, std::size_t(stepper.batch() * stepper.model().states[std::size_t(index)].row_bytes()));
  });
}

size_t elman_row_size(const elman_model* model) { return model ? model->model->row_bytes : 0; }

elman_status elman_get_row(const elman_stream* stream, int64_t row, void* to) {
  return guarded([&] {
    check(stream, "stream"), check(to, "to");
    const Stepper& stepper = stream->stepper;
    check_index(row, std::size_t(stepper.batch()), "row");
    char* at = static_cast<char*>(to);
    for (std::size_t i = 0; i < stepper.model().states.size(); ++i) {
      const std::size_t bytes = std::size_t(stepper.model().states[i].row_bytes());
      std::memcpy(at, stepper.state_row(i, row), bytes);
      at += bytes;
    }
  });
}

elman_status elman_set_row(elman_stream* stream, int64_t row, const void* from) {
  return guarded([&] {
    check(stream, "stream"), check(from, "from");
    const Stepper& stepper = stream->stepper;
    check_index(row, std::size_t(stepper.batch()), "row");
    const char* at = static_cast<const char*>(from);
    for (std::size_t i = 0; i < stepper.model().states.size(); ++i) {
      const std::size_t bytes = std::size_t(stepper.model().states[i].row_bytes());
      std::memcpy(stepper.state_row(i, row), at, bytes);
      at += bytes;
    }
  });
}

elman_status elman_reset(elman_stream* stream, const unsigned char* rows) {
  return guarded([&] {
    check(stream, "stream");
    stream->stepper.reset(rows);
  });
}

elman_status elman_set_context(elman_stream* stream, const void* const* contexts) {
  return guarded([&] {
    check(stream, "stream");
    const Model& model = stream->stepper.model();
    check_all(contexts, model.given_contexts, model.contexts, "contexts");
    stream->stepper.set_context(contexts);
  });
}

elman_status elman_run(const elman_model* model, const elman_sequence* sequence) {
  return guarded([&] {
    check(model, "model"), check(sequence, "sequence");
    check_sequence(*model->model, *sequence);
    elman::frozen::run_whole(*model->model, *sequence);
  });
}

}  // extern "C"
