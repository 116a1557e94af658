// Cross entropy over blocks of rows, for Python.
#include <nanobind/stl/string.h>

#include <cstdlib>
#include <stdexcept>

#include "bind.h"
#include "entropy.h"
#include "isa.h"

namespace nb = nanobind;

namespace elman {

namespace {

using Address = std::uintptr_t;

Number number_of(const std::string& dtype) {
  if (dtype == "float32") return Number::f32;
  if (dtype == "float64") return Number::f64;
  throw std::invalid_argument("dtype is '" + dtype + "', expected 'float32' or 'float64'");
}

const Isa& chosen_isa(const std::string& name) {
  const char* wanted = std::getenv("ELMAN_ISA");
  return find_isa(name.empty() && wanted ? wanted : name);
}

void run_entropy(const std::string& dtype, Int rows, Int classes, Address z, Int stride, Address bias, Address weight,
                 Address target, Address factor, Address nll, Address even, bool keeps, int threads, const std::string& isa) {
  const Isa& chosen = chosen_isa(isa);
  const Number number = number_of(dtype);
  nb::gil_scoped_release release;
  entropy(number, chosen, {z, rows, classes, stride, bias, weight, target, factor, nll, even, keeps}, threads);
}

void run_gradient(const std::string& dtype, Int rows, Int classes, Address z, Int stride, Address weight, Address target,
                  Address factor, Address scale, Address right, Address even, Address sum, bool adds, int threads,
                  const std::string& isa) {
  const Isa& chosen = chosen_isa(isa);
  const Number number = number_of(dtype);
  nb::gil_scoped_release release;
  entropy_gradient(number, chosen, {z, rows, classes, stride, weight, target, factor, scale, right, even, sum, adds}, threads);
}

}  // namespace

void bind_entropy(nb::module_& m) {
  m.attr("ENTROPY_CHUNK") = entropy_chunk;
  m.def("entropy", run_entropy, nb::arg("dtype"), nb::arg("rows"), nb::arg("classes"), nb::arg("z"), nb::arg("stride"),
        nb::arg("bias"), nb::arg("weight"), nb::arg("target"), nb::arg("factor"), nb::arg("nll"), nb::arg("even"),
        nb::arg("keeps"), nb::arg("threads"), nb::kw_only(), nb::arg("isa") = "", "Cross entropy of rows of logits.");
  m.def("entropy_gradient", run_gradient, nb::arg("dtype"), nb::arg("rows"), nb::arg("classes"), nb::arg("z"),
        nb::arg("stride"), nb::arg("weight"), nb::arg("target"), nb::arg("factor"), nb::arg("scale"), nb::arg("right"),
        nb::arg("even"), nb::arg("sum"), nb::arg("adds"), nb::arg("threads"), nb::kw_only(), nb::arg("isa") = "",
        "The gradient of such rows, in their place.");
}

}  // namespace elman
