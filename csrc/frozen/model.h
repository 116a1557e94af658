// A frozen model: its arrays by number, and the stages that make one of the other.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "frozen/file.h"
#include "kernel.h"

namespace elman::frozen {

struct ArrayInfo {
  std::string name;
  std::vector<Int> shape;
  Type type;
  Int width;
  bool per_sequence = false;  // one row for each sequence, not for each step

  Int row_bytes() const { return width * size_of(type); }
};

struct StateInfo : ArrayInfo {
  const void* initial;  // (width,); null: zeros
};

// A step of the engine. ins, outs: arrays; or contexts, where it is one of those that are run once for the contexts.
struct KernelStage {
  std::unique_ptr<Kernel> kernel;
  bool reverse, per_sequence, of_context;
  std::vector<int> ins, outs, states, contexts;
  std::vector<std::uintptr_t> vectors;
  std::vector<WeightMemory> weights;
};

// Rows of a table by their number.
struct LookUp {
  int in, out;
  const Tensor* table;
};

// The sum of the rows of a table that the first letters of a word have, and its last ones: see elman.nn.Affixes. A word's
// letters are its numbers above 0, which come first.
struct Affixes {
  int in, out;
  const Tensor* table;
  Int longest;
};

class Model;

// Numbers of a row, those above 0, as a sequence of its own that another model reads: its one answer to all of them.
struct Spell {
  int in, out;
  std::shared_ptr<const Model> inner;
};

// Numbers of another type as the model's.
struct Convert {
  int in, out;
};

// One row for each sequence, of those of its steps; `scores`, one number a step, are for `attention` alone.
struct Pool {
  enum class Kind { last, first, mean, max, attention };
  Kind kind;
  int in, scores, out;
};

using Stage = std::variant<KernelStage, LookUp, Affixes, Spell, Convert, Pool>;

class Model {
 public:
  // Throws Refusal for a file that does not hold together, and for what a newer version may have written.
  explicit Model(File file);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  Number number;
  std::vector<ArrayInfo> arrays, contexts;
  std::vector<StateInfo> states;
  std::vector<int> inputs, outputs, given_contexts;
  std::vector<Stage> stages;
  bool can_step = true;
  std::size_t row_bytes = 0;  // of all states of a row

  const std::string* text(const std::string& key) const;

 private:
  // Part of another model, of the same file.
  Model(std::shared_ptr<const File> file, const Json* part);
  void read_arrays(const Json& model);
  KernelStage read_kernel(const Json& stage);
  Stage read_stage(const Json& stage);
  LookUp read_look_up(const Json& stage);
  Affixes read_affixes(const Json& stage);
  Spell read_spell(const Json& stage);
  Pool read_pool(const Json& stage);
  void read_weights(const Json& stage, KernelStage& found, Spec& spec);
  int array(const Json& stage, const char* key, Type type);
  void check_order() const;

  std::shared_ptr<const File> file_;
  bool inner_;  // a part of another one, and without such parts
  std::vector<std::pair<std::string, std::string>> texts_;
};

}  // namespace elman::frozen
