// Steps of a stream on weights that may change between two of them.
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>

#include "array.h"
#include "bind.h"
#include "kernel.h"
#include "originals.h"

namespace nb = nanobind;

namespace elman {

namespace {

// What x has to be for the short way, and how y is made.
struct Short {
  Dense dense;
  nb::object sizes, array, from_capsule, modes;

  // Nobody wants to see the operations.
  bool alone() const {
    const nb::object count = nb::steal(PyObject_CallNoArgs(modes.ptr()));
    if (!count.is_valid()) throw nb::python_error();
    return PyLong_AsLong(count.ptr()) == 0;
  }
  bool fits(PyObject* x) const { return dense.fits(x) && dense.has(x, sizes); }
  nb::object make(Address* address) const { return new_tensor(nb::cast<const ArrayShape&>(array), from_capsule, address); }
};

// A stream, and the tensors that its weights were packed from.
class Steps : public Originals, public Quick {
 public:
  Steps(nb::object stream, nb::object version, nb::object place)
      : Originals(std::move(version), std::move(place)), stream_(std::move(stream)), target_(nb::cast<Stream*>(stream_)) {}

  bool step(const std::vector<Address>& in, const std::vector<Address>& out) {
    if (!same()) return false;
    target_->step(in.data(), in.size(), out.data(), out.size());
    return true;
  }
  void expect(nb::object kind, nb::object sizes, nb::object dtype, nb::object shape, nb::object type, nb::object on_cpu,
              nb::object contiguous, nb::object array, nb::object from_capsule, nb::object modes, bool elsewhere) {
    Dense dense(std::move(kind), std::move(dtype), std::move(shape), std::move(type), std::move(on_cpu), std::move(contiguous), elsewhere);
    short_ = std::make_unique<Short>(Short{std::move(dense), std::move(sizes), std::move(array), std::move(from_capsule), std::move(modes)});
  }
  nb::object step_one(nb::handle x) {
    if (!short_ || !short_->fits(x.ptr()) || !short_->alone() || !same()) return nb::none();
    Address in = place_of(x.ptr()), out;
    if (!in) return nb::none();
    nb::object y = short_->make(&out);
    target_->step(&in, 1, &out, 1);
    fetch();
    return y;
  }
  nb::object answer(PyObject* const* arguments, Py_ssize_t count) override {
    return count == 1 ? step_one(arguments[0]) : nb::none();
  }
  // No more by `step_one`: others have taken its place.
  void retire() { short_.reset(); }

 private:
  nb::object stream_;
  Stream* target_;
  std::unique_ptr<Short> short_;
};

int steps_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<Steps>(self)->traverse(visit, arg) : 0;
}

int steps_clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Steps>(self)->clear();
  return 0;
}

// What is called again and again: the core answers if it can, else its method `_call`. The `__call__` of a class written in
// Python takes a twelfth of the time of a step of 64 units.
class Caller {
 public:
  void set_steps(nb::object steps) {
    target_ = steps.is_none() ? nullptr : nb::isinstance<Steps>(steps) ? nb::cast<Steps*>(steps) : &packed_call(steps);
    steps_ = std::move(steps);
  }
  nb::object steps() const { return steps_; }
  nb::object call(PyObject* self, PyObject* args, PyObject* keywords) const {
    if (target_ && (!keywords || PyDict_GET_SIZE(keywords) == 0)) {
      const nb::object alive = steps_;
      nb::object y = target_->answer(reinterpret_cast<PyTupleObject*>(args)->ob_item, PyTuple_GET_SIZE(args));
      if (!y.is_none()) return y;
    }
    const nb::object method = nb::steal(PyObject_GetAttrString(self, "_call"));
    if (!method.is_valid()) throw nb::python_error();
    nb::object y = nb::steal(PyObject_Call(method.ptr(), args, keywords));
    if (!y.is_valid()) throw nb::python_error();
    return y;
  }
  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(steps_.ptr());
    return 0;
  }
  void clear() {
    target_ = nullptr;
    const nb::object gone = std::move(steps_);
  }

 private:
  nb::object steps_ = nb::none();
  Quick* target_ = nullptr;
};

int caller_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<Caller>(self)->traverse(visit, arg) : 0;
}

int caller_clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Caller>(self)->clear();
  return 0;
}

PyObject* caller_call(PyObject* self, PyObject* args, PyObject* keywords) {
  try {
    if (!nb::inst_ready(self)) throw nb::type_error("__init__ of the class above was not called");
    return nb::inst_ptr<Caller>(self)->call(self, args, keywords).release().ptr();
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const nb::builtin_exception& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyType_Slot caller_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(caller_traverse)},
                              {Py_tp_clear, reinterpret_cast<void*>(caller_clear)},
                              {Py_tp_call, reinterpret_cast<void*>(caller_call)},
                              {0, nullptr}};

PyType_Slot steps_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(steps_traverse)},
                             {Py_tp_clear, reinterpret_cast<void*>(steps_clear)},
                             {0, nullptr}};

}  // namespace

void bind_live(nb::module_& m) {
  nb::class_<Steps>(m, "Steps", nb::type_slots(steps_slots))
      .def(nb::init<nb::object, nb::object, nb::object>(), nb::arg("stream"), nb::arg("version"), nb::arg("place"))
      .def("add", &Steps::add, nb::arg("tensor"), nb::arg("alias"), nb::arg("bytes"), nb::arg("counted"))
      .def("add_entry", &Steps::add_entry, nb::arg("mapping"), nb::arg("key"), nb::arg("value"))
      .def("same", &Steps::same)
      .def("unchanged", &Steps::unchanged)
      .def("step", &Steps::step, nb::arg("in_ptrs"), nb::arg("out_ptrs"))
      .def("expect", &Steps::expect, nb::arg("kind"), nb::arg("sizes"), nb::arg("dtype"), nb::arg("shape_of"),
           nb::arg("dtype_of"), nb::arg("on_cpu"), nb::arg("contiguous"), nb::arg("array"), nb::arg("from_capsule"),
           nb::arg("modes"), nb::arg("elsewhere"))
      .def("step_one", &Steps::step_one, nb::arg("x"))
      .def("retire", &Steps::retire)
      .def_prop_ro("period", &Steps::period);
  nb::class_<Caller>(m, "Caller", nb::type_slots(caller_slots))
      .def(nb::init<>())
      .def_prop_rw("steps", &Caller::steps, &Caller::set_steps, nb::for_setter(nb::arg("steps").none()));
}

}  // namespace elman
