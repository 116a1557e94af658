// The module. Only bind*.cpp see Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <stdexcept>

#include "array.h"
#include "bind.h"
#include "isa.h"
#include "kernel.h"
#include "memory.h"
#include "recipe.h"
#include "sums.h"
#include "watch.h"

namespace nb = nanobind;

namespace elman {

namespace {

using Address = std::uintptr_t;
using List = std::vector<Int>;

std::string wanted_isa() {
  const char* name = std::getenv("ELMAN_ISA");
  return name ? name : "";
}

Number number_of(const std::string& dtype) {
  if (dtype == "float32") return Number::f32;
  if (dtype == "float64") return Number::f64;
  throw std::invalid_argument("dtype is '" + dtype + "', expected 'float32' or 'float64'");
}

void make_kernel(Kernel* self, const std::string& dtype, std::vector<List> widths,
                 const std::vector<std::pair<Int, Int>>& nweights, std::vector<List> code, std::vector<double> consts,
                 std::vector<List> commits, const std::string& isa) {
  Spec spec{std::move(widths), {}, std::move(code), std::move(consts), std::move(commits)};
  for (const auto& [K, N] : nweights) spec.weights.push_back({K, N});
  new (self) Kernel(number_of(dtype), spec, find_isa(isa.empty() ? wanted_isa() : isa));
}

using Strides = std::vector<std::pair<Address, Int>>;
using Weights = std::vector<std::tuple<Address, Int, Int>>;

Sequence sequence_of(Int T, Int B, const Strides& in, std::vector<Address> ctx, std::vector<Address> vec,
                     std::vector<Address> out, std::vector<Address> carry, const Weights& weights, int threads) {
  Sequence sequence{T, B, nullptr, false, {}, std::move(ctx), std::move(vec), std::move(out), std::move(carry), {},
                    nullptr, ResetMode::none, {}, threads};
  for (const auto& [address, stride] : in) sequence.in.push_back({address, stride});
  for (const auto& [address, stride_k, stride_n] : weights) sequence.weights.push_back({address, stride_k, stride_n});
  return sequence;
}

void run_kernel(const Kernel& self, Int T, Int B, Address offsets, bool reverse_time, const Strides& in,
                std::vector<Address> ctx, std::vector<Address> vec, std::vector<Address> out,
                std::vector<Address> carry, const Weights& weights, Address reset, int reset_mode,
                std::vector<Address> reset_rows, int threads) {
  if (reset_mode < 0 || reset_mode > 2)
    throw std::invalid_argument("reset_mode is " + std::to_string(reset_mode) + ", expected 0, 1 or 2");
  Sequence sequence = sequence_of(T, B, in, std::move(ctx), std::move(vec), std::move(out), std::move(carry), weights, threads);
  sequence.offsets = reinterpret_cast<const Int*>(offsets);
  sequence.reverse = reverse_time;
  sequence.reset_flags = reinterpret_cast<const unsigned char*>(reset);
  sequence.reset_mode = ResetMode(reset_mode);
  sequence.reset = std::move(reset_rows);
  nb::gil_scoped_release release;
  self.run(sequence);
}

std::unique_ptr<Stream> make_stream(const Kernel& self, Int B, const Strides& in, std::vector<Address> ctx,
                                    std::vector<Address> vec, std::vector<Address> out, std::vector<Address> carry,
                                    const Weights& weights, int threads) {
  return self.stream(sequence_of(1, B, in, std::move(ctx), std::move(vec), std::move(out), std::move(carry), weights, threads));
}

// Jobs are (N, a, stride, columns, products) with columns (factor, stride, out) and products (b, stride, M, out).
using Columns = std::vector<std::tuple<Address, Int, Address>>;
using Products = std::vector<std::tuple<Address, Int, Int, Address>>;
using Jobs = std::vector<std::tuple<Int, Address, Int, Columns, Products>>;

void run_sums(const std::string& dtype, Int rows, const Jobs& given, int threads, const std::string& isa) {
  std::vector<RowSumMemory> jobs;
  for (const auto& [N, a, a_stride, columns, products] : given) {
    RowSumMemory job{N, a, a_stride, {}, {}};
    for (const auto& [factor, stride, out] : columns) job.columns.push_back({factor, stride, out});
    for (const auto& [b, stride, M, out] : products) job.products.push_back({b, stride, M, out});
    jobs.push_back(std::move(job));
  }
  const Isa& chosen = find_isa(isa.empty() ? wanted_isa() : isa);
  nb::gil_scoped_release release;
  sum_rows(number_of(dtype), chosen, rows, jobs, threads);
}

int watch_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<Watch>(self)->traverse(visit, arg) : 0;
}

int watch_clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Watch>(self)->clear();
  return 0;
}

PyType_Slot watch_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(watch_traverse)},
                             {Py_tp_clear, reinterpret_cast<void*>(watch_clear)},
                             {0, nullptr}};

// A recipe, and the kernels that it runs.
struct Course {
  std::vector<nb::object> kernels;
  Recipe recipe;
};

using Operands = std::vector<std::pair<int, int>>;

Moment moment_of(int number) {
  if (number < 0 || number > 2) throw std::invalid_argument("a moment is " + std::to_string(number) + ", expected 0..2");
  return Moment(number);
}

std::vector<Operated> operands_of(const Operands& given) {
  std::vector<Operated> operands;
  for (const auto& [array, moment] : given) operands.push_back({array, moment_of(moment)});
  return operands;
}

KernelStep kernel_step(nb::tuple t, std::vector<nb::object>& kernels) {
  KernelStep step{nb::cast<const Kernel*>(t[1]), nb::cast<bool>(t[2]), nb::cast<Int>(t[3]), nb::cast<bool>(t[4]),
                  operands_of(nb::cast<Operands>(t[5])), nb::cast<std::vector<int>>(t[6]), nb::cast<std::vector<int>>(t[7]),
                  operands_of(nb::cast<Operands>(t[8])), nb::cast<std::vector<int>>(t[9]), {}, {}};
  for (const auto& [array, k, n] : nb::cast<std::vector<std::tuple<int, Int, Int>>>(t[10])) step.weights.push_back({array, k, n});
  if (nb::len(t) > 11) step.rest = nb::cast<std::vector<int>>(t[11]);
  kernels.push_back(nb::borrow<nb::object>(t[1]));
  return step;
}

using SumGiven = std::tuple<int, int, Int, Int, std::vector<std::tuple<int, int, int>>, std::vector<std::tuple<int, int, int>>>;

std::vector<RecipeSum> sums_step(const std::vector<SumGiven>& given) {
  std::vector<RecipeSum> sums;
  for (const auto& [a, moment, begin, N, columns, products] : given) {
    RecipeSum sum{{a, moment_of(moment)}, begin, N, {}, {}};
    for (const auto& [factor, when, out] : columns) sum.columns.push_back({{factor, moment_of(when)}, out});
    for (const auto& [b, when, out] : products) sum.products.push_back({{b, moment_of(when)}, out});
    sums.push_back(std::move(sum));
  }
  return sums;
}

void make_course(Course* self, const std::string& dtype, const std::vector<std::tuple<int, int, Int, List>>& given,
                 const std::vector<nb::tuple>& steps, int block) {
  std::vector<RecipeArray> arrays;
  for (const auto& [keeper, extent, width, tail] : given) {
    if (keeper < 0 || keeper > 3 || extent < 0 || extent > 4) throw std::invalid_argument("an array of an unknown kind");
    arrays.push_back({Keeper(keeper), Extent(extent), width, tail});
  }
  std::vector<RecipeStep> course;
  std::vector<nb::object> kernels;
  for (const nb::tuple& t : steps) {
    const std::string kind = nb::cast<std::string>(t[0]);
    RecipeStep step{};
    if (kind == "kernel") step.kind = RecipeStep::Kind::kernel, step.kernel = kernel_step(t, kernels);
    else if (kind == "sums") step.kind = RecipeStep::Kind::sums, step.sums = sums_step(nb::cast<std::vector<SumGiven>>(t[1]));
    else if (kind == "move") step.kind = RecipeStep::Kind::move, step.move = {nb::cast<int>(t[1]), nb::cast<int>(t[2]), nb::cast<bool>(t[3])};
    else if (kind == "unsort") step.kind = RecipeStep::Kind::unsort, step.unsort = {nb::cast<int>(t[1]), nb::cast<int>(t[2])};
    else if (kind == "start") step.kind = RecipeStep::Kind::start, step.start = {nb::cast<int>(t[1]), nb::cast<int>(t[2])};
    else if (kind == "join") step.kind = RecipeStep::Kind::join,
      step.join = {nb::cast<int>(t[1]), nb::cast<int>(t[2]), nb::cast<Int>(t[3]), nb::cast<bool>(t[4])};
    else throw std::invalid_argument("a step is '" + kind + "', expected 'kernel', 'sums', 'move', 'start', 'unsort' or 'join'");
    course.push_back(std::move(step));
  }
  Recipe recipe(number_of(dtype), find_isa(wanted_isa()), std::move(arrays), std::move(course), block);
  new (self) Course{std::move(kernels), std::move(recipe)};
}

nb::list run_course(const Course& self, Int T, Int B, bool reverse, const std::vector<Address>& given, int threads,
                    const Ragged* ragged) {
  Recipe::Made made;
  self.recipe.make(T, B, reverse, ragged, made);
  {
    nb::gil_scoped_release release;
    self.recipe.run(T, B, reverse, ragged, given, made, threads);
  }
  nb::list capsules;
  for (const auto& some : {made.capsules, made.histories})
    for (PyObject* capsule : some) capsules.append(nb::borrow<nb::object>(capsule));
  return capsules;
}

void make_ragged(Ragged* self, Int T, Int B, bool reverse, Address lengths, Address mask, Address reset) {
  new (self) Ragged(T, B, reverse, reinterpret_cast<const Int*>(lengths), reinterpret_cast<const unsigned char*>(mask),
                    reinterpret_cast<const unsigned char*>(reset));
}

nb::object make_array(const std::string& dtype, Int rows, Int width) {
  return nb::steal<nb::object>(ArrayShape(element_size(number_of(dtype)), {rows, width}).make());
}

nb::dict ops() {
  nb::dict table;
  for (int i = 0; i < op_count; ++i) table[op_table[i].name] = nb::make_tuple(i, op_table[i].sources);
  return table;
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const Isa* isa : available_isas()) names.push_back(isa->name);
  return names;
}

}  // namespace

const Recipe& recipe_of(nb::handle course) { return nb::cast<const Course*>(course)->recipe; }

NB_MODULE(_core, m) {
  m.doc() = "Loop kernels: one recurrent step, compiled to a list of instructions, run over a sequence.";
  nb::set_leak_warnings(false);  // kernels live in caches until the process ends
  find_isa(wanted_isa());  // a wrong ELMAN_ISA fails at import
  set_poison(std::getenv("ELMAN_POISON") != nullptr);
  m.attr("OPS") = ops();
  m.def("isa", [] { return find_isa(wanted_isa()).name; }, "The instruction set that kernels use by default.");
  m.def("isas", isa_names, "The instruction sets this machine can run, best first.");
  m.def("poison", set_poison, nb::arg("on"), "For tests: registers start every step as NaN.");
  m.def("array", make_array, nb::arg("dtype"), nb::arg("rows"), nb::arg("width"),
        "Uninitialised (rows, width), as a DLPack capsule.");
  m.def("sum_rows", run_sums, nb::arg("dtype"), nb::arg("rows"), nb::arg("jobs"), nb::arg("threads"), nb::kw_only(),
        nb::arg("isa") = "", "Sums over rows, of products and of columns.");
  m.def("kept_memory", kept_memory, "Bytes of freed arrays that are kept for the next ones.");
  m.def("memory_limit", memory_limit, "The most bytes that are kept (ELMAN_CACHE_MB).");
  m.def("release_memory", release_memory, "Give what is kept back to the system.");
  m.def("stretch", set_stretch, nb::arg("steps"), "For tests: a recipe takes so many steps at a time; 0: as many as are good.");
  m.def("share_columns", share_columns, nb::arg("always"), "For tests: threads share the columns of every product.");
  nb::class_<ArrayShape>(m, "ArrayShape")
      .def("__init__", [](ArrayShape* self, const std::string& dtype, const List& sizes) {
             new (self) ArrayShape(element_size(number_of(dtype)), sizes);
           }, nb::arg("dtype"), nb::arg("sizes"))
      .def("make", [](const ArrayShape& self) { return nb::steal<nb::object>(self.make()); });
  nb::class_<Stream>(m, "Stream")
      .def("step", [](Stream& self, const std::vector<Address>& in, const std::vector<Address>& out) {
             self.step(in.data(), in.size(), out.data(), out.size());
           }, nb::arg("in_ptrs"), nb::arg("out_ptrs"))
      .def("step_one", [](Stream& self, Address in, Address out) { self.step(&in, 1, &out, 1); }, nb::arg("in_ptr"),
           nb::arg("out_ptr"));
  nb::class_<Watch>(m, "Watch", nb::type_slots(watch_slots))
      .def(nb::init<nb::object>(), nb::arg("nothing"))
      .def("add_entry", &Watch::add_entry, nb::arg("mapping"), nb::arg("key"), nb::arg("value").none())
      .def("add_scan", &Watch::add_scan, nb::arg("mapping"), nb::arg("keys"), nb::arg("values"))
      .def("add_type", &Watch::add_type, nb::arg("kind"), nb::arg("names"), nb::arg("values"))
      .def("add_list", &Watch::add_list, nb::arg("what"), nb::arg("items"))
      .def("add_iterated", &Watch::add_iterated, nb::arg("what"), nb::arg("items"))
      .def("add_member", &Watch::add_member, nb::arg("what"), nb::arg("descriptor"), nb::arg("value").none())
      .def("add_cell", &Watch::add_cell, nb::arg("cell"), nb::arg("value").none())
      .def("add_function", &Watch::add_function, nb::arg("function"))
      .def("add_length", &Watch::add_length, nb::arg("what"), nb::arg("length"))
      .def("add_bytes", &Watch::add_bytes, nb::arg("what"))
      .def("add_variable", &Watch::add_variable, nb::arg("variable"), nb::arg("value").none())
      .def("add_answer", &Watch::add_answer, nb::arg("call"), nb::arg("value").none())
      .def("first_change", &Watch::first_change);
  nb::class_<Course>(m, "Recipe")
      .def("__init__", make_course, nb::arg("dtype"), nb::arg("arrays"), nb::arg("steps"), nb::arg("block"))
      .def("run", run_course, nb::arg("T"), nb::arg("B"), nb::arg("reverse"), nb::arg("given"), nb::arg("threads"),
           nb::arg("ragged") = nb::none());
  nb::class_<Ragged>(m, "Ragged")
      .def("__init__", make_ragged, nb::arg("T"), nb::arg("B"), nb::arg("reverse"), nb::arg("lengths_ptr"), nb::arg("mask_ptr"),
           nb::arg("reset_ptr"))
      .def_ro("T", &Ragged::T).def_ro("B", &Ragged::B).def_ro("reverse", &Ragged::reverse).def_ro("steps", &Ragged::steps)
      .def_ro("rows", &Ragged::rows).def_ro("waits", &Ragged::waits);
  nb::class_<Kernel>(m, "Kernel")
      .def("__init__", make_kernel, nb::arg("dtype"), nb::arg("widths"), nb::arg("nweights"), nb::arg("code"),
           nb::arg("consts"), nb::arg("commits"), nb::kw_only(), nb::arg("isa") = "")
      .def("run", run_kernel, nb::arg("T"), nb::arg("B"), nb::arg("offsets_ptr"), nb::arg("reverse_time"),
           nb::arg("in_ptrs"), nb::arg("ctx_ptrs"), nb::arg("vec_ptrs"), nb::arg("out_ptrs"), nb::arg("carry_ptrs"),
           nb::arg("weights"), nb::arg("reset_ptr"), nb::arg("reset_mode"), nb::arg("reset_ptrs"), nb::arg("threads"))
      .def("stream", make_stream, nb::keep_alive<0, 1>(), nb::arg("B"), nb::arg("in_ptrs"), nb::arg("ctx_ptrs"),
           nb::arg("vec_ptrs"), nb::arg("out_ptrs"), nb::arg("carry_ptrs"), nb::arg("weights"), nb::arg("threads"))
      .def_prop_ro("dtype", [](const Kernel& k) { return k.number() == Number::f32 ? "float32" : "float64"; })
      .def_prop_ro("isa", [](const Kernel& k) { return k.isa().name; })
      .def("__str__", [](const Kernel& k) { return describe(k.program()); });
  bind_entropy(m);
  bind_live(m);
  bind_packed(m);
  bind_profile(m);
}

}  // namespace elman
