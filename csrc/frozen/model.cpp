#include "frozen/model.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <stdexcept>

#include "frozen/refusal.h"
#include "isa.h"
#include "reader.h"

namespace elman::frozen {

namespace {

[[noreturn]] void newer(const std::string& what) {
  throw Refusal(ELMAN_NEWER, "the file has " + what + ", which this library does not know: take a newer one");
}

Type type_of(const std::string& word) {
  if (word == "float32") return Type::f32;
  if (word == "float64") return Type::f64;
  if (word == "int64") return Type::i64;
  newer("the type " + word);
}

const std::map<std::string, Int>& opcodes() {
  static const std::map<std::string, Int> found = [] {
    std::map<std::string, Int> codes;
    for (int i = 0; i < op_count; ++i) codes[op_table[i].name] = i;
    return codes;
  }();
  return found;
}

ArrayInfo info_of(const Json& entry) {
  ArrayInfo info{entry.need("name").string("name"), entry.need("shape").sizes("shape"),
                 type_of(entry.need("type").string("type")), 1};
  for (Int n : info.shape) {
    if (n < 1 || n > largest / info.width) damaged("the array " + info.name + " has a size that cannot be");
    info.width *= n;
  }
  if (const Json* per = entry.find("per_sequence")) info.per_sequence = per->boolean("per_sequence");
  return info;
}

std::vector<int> numbers(const Json& list, const char* what, std::size_t count) {
  std::vector<int> found;
  for (Int i : list.integers(what)) {
    if (i < 0 || i >= Int(count)) damaged(std::string(what) + " speaks of number " + text(i) + " of " + text(Int(count)));
    found.push_back(int(i));
  }
  return found;
}

Type float_of(Number number) { return number == Number::f32 ? Type::f32 : Type::f64; }

// What a stage of one input and one output reads and makes.
std::pair<int, int> ends_of(const Stage& stage) {
  return std::visit([](const auto& one) -> std::pair<int, int> {
    if constexpr (requires { one.in; }) return {one.in, one.out};
    else return {-1, -1};
  }, stage);
}

}  // namespace

Model::Model(File file) : Model(std::make_shared<const File>(std::move(file)), nullptr) {}

Model::Model(std::shared_ptr<const File> file, const Json* part) : file_(std::move(file)), inner_(part != nullptr) {
  const Json& model = part ? *part : file_->model();
  const Type type = type_of(model.need("type").string("type"));
  if (type == Type::i64) damaged("its numbers are integers");
  number = type == Type::f32 ? Number::f32 : Number::f64;
  read_arrays(model);
  for (const auto& [key, value] : model.need("texts").object("texts")) texts_.emplace_back(key, value.string("texts"));
  try {
    for (const Json& stage : model.need("stages").list("stages")) stages.push_back(read_stage(stage));
  } catch (const std::invalid_argument& error) {
    damaged(error.what());
  }
  check_order();
  for (const Stage& stage : stages) {
    const auto* kernel = std::get_if<KernelStage>(&stage);
    if ((kernel && (kernel->reverse || kernel->per_sequence)) || std::holds_alternative<Pool>(stage) || std::holds_alternative<Spell>(stage))
      can_step = false;
  }
}

void Model::read_arrays(const Json& model) {
  for (const Json& entry : model.need("arrays").list("arrays")) arrays.push_back(info_of(entry));
  for (const Json& entry : model.need("contexts").list("contexts")) contexts.push_back(info_of(entry));
  for (const Json& entry : model.need("states").list("states")) {
    StateInfo state{info_of(entry), nullptr};
    if (state.type != float_of(number)) damaged("the state " + state.name + " is of another type");
    if (const Json* initial = entry.find("initial")) {
      const Tensor& tensor = file_->tensor(initial->string("initial"));
      if (tensor.type != state.type || tensor.count() != state.width) damaged("the state " + state.name + " begins with another width");
      state.initial = tensor.memory;
    }
    row_bytes += std::size_t(state.row_bytes());
    states.push_back(std::move(state));
  }
  inputs = numbers(model.need("inputs"), "inputs", arrays.size());
  outputs = numbers(model.need("outputs"), "outputs", arrays.size());
  given_contexts = numbers(model.need("given_contexts"), "given_contexts", contexts.size());
  for (const ArrayInfo& context : contexts)
    if (context.type != float_of(number)) damaged("the context " + context.name + " is of another type");
}

const std::string* Model::text(const std::string& key) const {
  for (const auto& [name, value] : texts_)
    if (name == key) return &value;
  return nullptr;
}

int Model::array(const Json& stage, const char* key, Type type) {
  const Int i = stage.need(key).integer(key);
  if (i < 0 || i >= Int(arrays.size())) damaged("a stage speaks of array " + elman::text(i) + " of " + elman::text(Int(arrays.size())));
  if (arrays[std::size_t(i)].type != type) damaged("a stage has the array " + arrays[std::size_t(i)].name + " of another type");
  return int(i);
}

Stage Model::read_stage(const Json& stage) {
  const std::string& kind = stage.need("kind").string("kind");
  if (kind == "kernel") return read_kernel(stage);
  if (kind == "look_up") return read_look_up(stage);
  if (kind == "affixes") return read_affixes(stage);
  if (kind == "spell") return read_spell(stage);
  if (kind == "pool") return read_pool(stage);
  if (kind != "convert") newer("a stage of the kind " + kind);
  const Convert found{array(stage, "in", Type::i64), array(stage, "out", float_of(number))};
  if (arrays[std::size_t(found.in)].width != arrays[std::size_t(found.out)].width) damaged("a stage converts to another width");
  return found;
}

LookUp Model::read_look_up(const Json& stage) {
  const Type type = float_of(number);
  const LookUp found{array(stage, "in", Type::i64), array(stage, "out", type), &file_->tensor(stage.need("table").string("table"))};
  const Tensor& table = *found.table;
  const ArrayInfo &in = arrays[std::size_t(found.in)], &out = arrays[std::size_t(found.out)];
  if (table.type != type || table.shape.size() != 2 || table.shape[0] < 1 || in.width != 1 || table.shape[1] != out.width)
    damaged("a table does not fit what is looked up in it");
  return found;
}

Affixes Model::read_affixes(const Json& stage) {
  const Type type = float_of(number);
  const Affixes found{array(stage, "in", Type::i64), array(stage, "out", type), &file_->tensor(stage.need("table").string("table")),
                      stage.need("longest").integer("longest")};
  const Tensor& table = *found.table;
  if (table.type != type || table.shape.size() != 2 || table.shape[0] < 1 || table.shape[1] != arrays[std::size_t(found.out)].width)
    damaged("a table does not fit the affixes of words");
  if (found.longest < 1 || found.longest > 64) damaged("affixes have " + elman::text(found.longest) + " letters");
  return found;
}

Spell Model::read_spell(const Json& stage) {
  const Type type = float_of(number);
  if (inner_) damaged("a model within a model has another one within");
  Spell found{array(stage, "in", Type::i64), array(stage, "out", type),
              std::shared_ptr<const Model>(new Model(file_, &stage.need("model")))};
  const Model& inner = *found.inner;
  const bool fits = inner.number == number && inner.inputs.size() == 1 && inner.outputs.size() == 1 && inner.given_contexts.empty();
  if (!fits) damaged("a model within a model has other inputs or outputs");
  const ArrayInfo &in = inner.arrays[std::size_t(inner.inputs[0])], &out = inner.arrays[std::size_t(inner.outputs[0])];
  if (in.type != Type::i64 || in.width != 1 || out.type != type || !out.per_sequence || out.width != arrays[std::size_t(found.out)].width)
    damaged("a model within a model has other inputs or outputs");
  return found;
}

Pool Model::read_pool(const Json& stage) {
  const Type type = float_of(number);
  static const std::map<std::string, Pool::Kind> kinds = {{"last", Pool::Kind::last}, {"first", Pool::Kind::first},
      {"mean", Pool::Kind::mean}, {"max", Pool::Kind::max}, {"attention", Pool::Kind::attention}};
  const auto over = kinds.find(stage.need("over").string("over"));
  if (over == kinds.end()) newer("the pooling " + stage.need("over").string("over"));
  Pool found{over->second, array(stage, "in", type), -1, array(stage, "out", type)};
  if (found.kind == Pool::Kind::attention) found.scores = array(stage, "scores", type);
  const bool scored = found.scores < 0 || arrays[std::size_t(found.scores)].width == 1;
  if (!scored || arrays[std::size_t(found.in)].width != arrays[std::size_t(found.out)].width) damaged("a pooling has other widths");
  return found;
}

KernelStage Model::read_kernel(const Json& stage) {
  KernelStage found{};
  found.reverse = stage.need("reverse").boolean("reverse");
  found.of_context = stage.need("of_context").boolean("of_context");
  const std::size_t count = found.of_context ? contexts.size() : arrays.size();
  found.ins = numbers(stage.need("in"), "in", count);
  found.outs = numbers(stage.need("out"), "out", count);
  found.states = numbers(stage.need("states"), "states", states.size());
  found.contexts = numbers(stage.need("contexts"), "contexts", contexts.size());
  Spec spec;
  spec.widths.resize(6);
  const auto add = [&](Space space, const std::vector<int>& which, const auto& infos) {
    for (int i : which) {
      if (infos[std::size_t(i)].type != float_of(number)) damaged("a kernel has the array " + infos[std::size_t(i)].name + " of another type");
      spec.widths[std::size_t(space)].push_back(infos[std::size_t(i)].width);
    }
  };
  if (found.of_context) add(Space::in, found.ins, contexts), add(Space::out, found.outs, contexts);
  else add(Space::in, found.ins, arrays), add(Space::out, found.outs, arrays);
  add(Space::carry, found.states, states);
  add(Space::ctx, found.contexts, contexts);
  if (found.of_context && !found.states.empty()) damaged("a kernel for contexts has a state");
  spec.widths[int(Space::reg)] = stage.need("registers").sizes("registers");
  read_weights(stage, found, spec);
  for (const Json& instruction : stage.need("code").list("code")) {
    const std::vector<Json>& words = instruction.list("code");
    if (words.empty()) damaged("an instruction is empty");
    const auto code = opcodes().find(words[0].string("code"));
    if (code == opcodes().end()) newer("the operation " + words[0].string("code"));
    spec.code.push_back({code->second});
    for (std::size_t i = 1; i < words.size(); ++i) spec.code.back().push_back(words[i].integer("code"));
  }
  for (const Json& commit : stage.need("commits").list("commits")) spec.commits.push_back(commit.integers("commits"));
  if (!found.of_context) {
    for (int i : {0, 1})
      for (int a : i ? found.outs : found.ins)
        if (arrays[std::size_t(a)].per_sequence) found.per_sequence = true;
    for (int i : {0, 1})
      for (int a : i ? found.outs : found.ins)
        if (arrays[std::size_t(a)].per_sequence != found.per_sequence) damaged("a kernel has arrays of steps and of sequences");
    if (found.per_sequence && !found.states.empty()) damaged("a kernel for sequences has a state");
  }
  const char* isa = std::getenv("ELMAN_ISA");
  found.kernel = std::make_unique<Kernel>(number, spec, find_isa(isa ? isa : ""));
  return found;
}

void Model::read_weights(const Json& stage, KernelStage& found, Spec& spec) {
  for (const Json& name : stage.need("vectors").list("vectors")) {
    const Tensor& tensor = file_->tensor(name.string("vectors"));
    if (tensor.type != float_of(number)) damaged("the tensor " + name.string("vectors") + " is of another type");
    spec.widths[int(Space::vec)].push_back(tensor.count());
    found.vectors.push_back(reinterpret_cast<std::uintptr_t>(tensor.memory));
  }
  for (const Json& weight : stage.need("weights").list("weights")) {
    const Tensor& tensor = file_->tensor(weight.need("tensor").string("tensor"));
    if (tensor.type != float_of(number) || tensor.shape.size() != 2) damaged("a weight is no matrix of the model's numbers");
    const bool turned = weight.need("transposed").boolean("transposed");
    const Int rows = tensor.shape[0], columns = tensor.shape[1];
    spec.weights.push_back(turned ? WeightShape{columns, rows} : WeightShape{rows, columns});
    found.weights.push_back({reinterpret_cast<std::uintptr_t>(tensor.memory), turned ? 1 : columns, turned ? columns : 1});
  }
  const Tensor& constants = file_->tensor(stage.need("constants").string("constants"));
  if (constants.type != Type::f64) damaged("the constants are of another type");
  const auto* first = static_cast<const double*>(constants.memory);
  spec.constants.assign(first, first + constants.count());
}

// Each array is made once, before it is read; so is each state, and each context that is not given.
void Model::check_order() const {
  std::vector<bool> made(arrays.size()), known(contexts.size()), stepped(states.size());
  const auto read = [&](int array) {
    if (!made[std::size_t(array)]) damaged("the array " + arrays[std::size_t(array)].name + " is read before it is made");
  };
  const auto make = [&](int array) {
    if (made[std::size_t(array)]) damaged("the array " + arrays[std::size_t(array)].name + " is made twice");
    made[std::size_t(array)] = true;
  };
  for (int i : inputs) make(i);
  for (int i : given_contexts) known[std::size_t(i)] = true;
  for (const Stage& stage : stages) {
    if (const auto* kernel = std::get_if<KernelStage>(&stage)) {
      for (int i : kernel->contexts)
        if (!known[std::size_t(i)]) damaged("the context " + contexts[std::size_t(i)].name + " is read before it is made");
      for (int i : kernel->states) {
        if (stepped[std::size_t(i)]) damaged("the state " + states[std::size_t(i)].name + " is moved by two stages");
        stepped[std::size_t(i)] = true;
      }
      if (kernel->of_context) {
        for (int i : kernel->ins)
          if (!known[std::size_t(i)]) damaged("the context " + contexts[std::size_t(i)].name + " is read before it is made");
        for (int i : kernel->outs) {
          if (known[std::size_t(i)]) damaged("the context " + contexts[std::size_t(i)].name + " is made twice");
          known[std::size_t(i)] = true;
        }
        continue;
      }
      for (int i : kernel->ins) read(i);
      for (int i : kernel->outs) make(i);
    } else if (const auto* pool = std::get_if<Pool>(&stage)) {
      read(pool->in), make(pool->out);
      if (pool->scores >= 0) read(pool->scores);
      if (arrays[std::size_t(pool->in)].per_sequence || !arrays[std::size_t(pool->out)].per_sequence)
        damaged("a pooling goes from steps to sequences, this one does not");
      if (pool->scores >= 0 && arrays[std::size_t(pool->scores)].per_sequence) damaged("a pooling has scores of sequences");
    } else {
      const auto [in, out] = ends_of(stage);
      read(in), make(out);
      if (arrays[std::size_t(in)].per_sequence || arrays[std::size_t(out)].per_sequence) damaged("a stage of steps has an array of sequences");
    }
  }
  for (std::size_t i = 0; i < states.size(); ++i)
    if (!stepped[i]) damaged("the state " + states[i].name + " is moved by no stage");
  for (int i : outputs) {
    read(i);
    if (std::find(inputs.begin(), inputs.end(), i) != inputs.end()) damaged("an output is an input");
  }
  for (int i : inputs)
    if (arrays[std::size_t(i)].per_sequence) damaged("an input is one for each sequence");
}

}  // namespace elman::frozen
