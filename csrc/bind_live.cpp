// Steps of a stream on weights that may change between two of them.
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>

#include "array.h"
#include "bind.h"
#include "kernel.h"
#include "live.h"

namespace nb = nanobind;

namespace elman {

namespace {

using Address = std::uintptr_t;

// A property of a class that is written in C, asked for without a detour.
class Property {
 public:
  explicit Property(nb::object descriptor) : descriptor_(std::move(descriptor)) {
    if (!Py_IS_TYPE(descriptor_.ptr(), &PyGetSetDescr_Type)) throw std::invalid_argument("expected the descriptor of a property");
    get_ = reinterpret_cast<PyGetSetDescrObject*>(descriptor_.ptr())->d_getset;
  }
  nb::object of(PyObject* object) const {
    nb::object value = nb::steal(get_->get(object, get_->closure));
    if (!value.is_valid()) throw nb::python_error();
    return value;
  }

 private:
  nb::object descriptor_;
  const PyGetSetDef* get_;
};

// What x has to be for the short way, and how y is made.
struct Short {
  nb::object kind, sizes, dtype, contiguous, array, from_capsule, modes;
  Property shape, type, on_cpu;
  bool elsewhere;  // tensors may lie in memory of another device
  nb::object nothing = nb::steal(PyTuple_New(0));
  // Nobody wants to see the operations.
  bool alone() const {
    const nb::object count = nb::steal(PyObject_CallNoArgs(modes.ptr()));
    if (!count.is_valid()) throw nb::python_error();
    return PyLong_AsLong(count.ptr()) == 0;
  }

  bool fits(PyObject* x) const {
    if (Py_TYPE(x) != reinterpret_cast<PyTypeObject*>(kind.ptr())) return false;
    if (type.of(x).ptr() != dtype.ptr() || (elsewhere && on_cpu.of(x).ptr() != Py_True)) return false;
    const int same = PyObject_RichCompareBool(shape.of(x).ptr(), sizes.ptr(), Py_EQ);
    if (same < 0) throw nb::python_error();
    if (!same) return false;
    const auto ask = reinterpret_cast<PyCFunctionWithKeywords>(
        reinterpret_cast<void (*)()>(reinterpret_cast<PyMethodDescrObject*>(contiguous.ptr())->d_method->ml_meth));
    const nb::object dense = nb::steal(ask(x, nothing.ptr(), nullptr));
    if (!dense.is_valid()) throw nb::python_error();
    return dense.ptr() == Py_True;
  }
  nb::object make(Address* address) const {
    const nb::object capsule = nb::steal(nb::cast<const ArrayShape&>(array).make(address));
    nb::object y = nb::steal(PyObject_CallOneArg(from_capsule.ptr(), capsule.ptr()));
    if (!y.is_valid()) throw nb::python_error();
    return y;
  }
};

// A stream, the tensors that its weights were packed from, and what these were: where each is found, which version it
// has by its owner's count, where its memory lies, and its values. The way to ask for a version (a property) and for the
// memory (a method without arguments) is given by the descriptors of the tensors' type, called here without a detour.
class Steps {
 public:
  Steps(nb::object stream, nb::object version, nb::object place)
      : stream_(std::move(stream)), place_(std::move(place)), version_(std::move(version)) {
    target_ = nb::cast<Stream*>(stream_);
    if (!Py_IS_TYPE(place_.ptr(), &PyMethodDescr_Type)) throw std::invalid_argument("expected the descriptor of a method");
    method_ = reinterpret_cast<PyMethodDescrObject*>(place_.ptr())->d_method;
    if (method_->ml_flags != METH_NOARGS) throw std::invalid_argument("expected a method without arguments");
  }
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  // alias: a tensor that keeps the memory alive; bytes: of the memory from its address on; counted: it has a version.
  void add(nb::object tensor, nb::object alias, Int bytes, bool counted) {
    check(tensor.ptr());
    const Address place = place_of(tensor.ptr());
    values_.add(reinterpret_cast<const void*>(place), bytes);
    tensors_.push_back({tensor, std::move(alias), counted, counted ? version_of(tensor.ptr()) : 0, place});
  }
  // mapping[key] is value
  void add_entry(nb::dict mapping, nb::object key, nb::object value) {
    entries_.push_back({std::move(mapping), std::move(key), std::move(value)});
  }

  bool same() { return in_place() && values_.same(); }
  // The same, with all values compared.
  bool unchanged() { return in_place() && values_.equal(); }

  bool in_place() const {
    for (const Entry& e : entries_) {
      PyObject* now = PyDict_GetItemWithError(e.mapping.ptr(), e.key.ptr());
      if (!now && PyErr_Occurred()) throw nb::python_error();
      if (now != e.value.ptr()) return false;
    }
    for (const Watched& w : tensors_) {
      if (w.counted && version_of(w.tensor.ptr()) != w.version) return false;
      if (place_of(w.tensor.ptr()) != w.place) return false;
    }
    return true;
  }

  bool step(const std::vector<Address>& in, const std::vector<Address>& out) {
    if (!same()) return false;
    target_->step(in.data(), in.size(), out.data(), out.size());
    return true;
  }
  void expect(nb::object kind, nb::object sizes, nb::object dtype, nb::object shape, nb::object type, nb::object on_cpu,
              nb::object contiguous, nb::object array, nb::object from_capsule, nb::object modes, bool elsewhere) {
    if (!Py_IS_TYPE(contiguous.ptr(), &PyMethodDescr_Type) ||
        reinterpret_cast<PyMethodDescrObject*>(contiguous.ptr())->d_method->ml_flags != (METH_VARARGS | METH_KEYWORDS))
      throw std::invalid_argument("expected the descriptor of a method with keywords");
    short_ = std::make_unique<Short>(Short{std::move(kind), std::move(sizes), std::move(dtype), std::move(contiguous),
                                           std::move(array), std::move(from_capsule), std::move(modes), Property(std::move(shape)),
                                           Property(std::move(type)), Property(std::move(on_cpu)), elsewhere});
  }
  nb::object step_one(nb::handle x) {
    if (!short_ || !short_->fits(x.ptr()) || !short_->alone() || !same()) return nb::none();
    Address in = place_of(x.ptr()), out;
    if (!in) return nb::none();
    nb::object y = short_->make(&out);
    target_->step(&in, 1, &out, 1);
    values_.fetch();
    return y;
  }
  // No more by `step_one`: others have taken its place.
  void retire() { short_.reset(); }
  Int period() const { return values_.period(); }

  int traverse(visitproc visit, void* arg) const {
    for (const Entry& e : entries_) {
      Py_VISIT(e.mapping.ptr());
      Py_VISIT(e.key.ptr());
      Py_VISIT(e.value.ptr());
    }
    for (const Watched& w : tensors_) {
      Py_VISIT(w.tensor.ptr());
      Py_VISIT(w.alias.ptr());
    }
    return 0;
  }
  // What the collector breaks a cycle at; never stepped again.
  void clear() {
    std::vector<Entry> entries;
    entries.swap(entries_);
    values_ = Values();
    std::vector<Watched> tensors;
    tensors.swap(tensors_);
  }

 private:
  struct Entry {
    nb::object mapping, key, value;
  };
  struct Watched {
    nb::object tensor, alias;
    bool counted;
    long long version;
    Address place;
  };

  void check(PyObject* tensor) const {
    if (!PyObject_TypeCheck(tensor, PyDescr_TYPE(place_.ptr()))) throw nb::type_error("expected a tensor");
  }
  long long version_of(PyObject* tensor) const {
    return PyLong_AsLongLong(version_.of(tensor).ptr());
  }
  Address place_of(PyObject* tensor) const {
    const nb::object place = nb::steal(method_->ml_meth(tensor, nullptr));
    if (!place.is_valid()) throw nb::python_error();
    return reinterpret_cast<Address>(PyLong_AsVoidPtr(place.ptr()));
  }

  nb::object stream_, place_;
  Property version_;
  Stream* target_;
  const PyMethodDef* method_;
  std::vector<Entry> entries_;
  std::vector<Watched> tensors_;
  Values values_;
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

// What is called with one x after the other: the steps answer if they can, else its method `_call`. The `__call__` of a
// class written in Python takes a twelfth of the time of a step of 64 units.
class Caller {
 public:
  void set_steps(nb::object steps) {
    target_ = steps.is_none() ? nullptr : &nb::cast<Steps&>(steps);
    steps_ = std::move(steps);
  }
  nb::object steps() const { return steps_; }
  nb::object call(PyObject* self, PyObject* args, PyObject* keywords) const {
    if (target_ && PyTuple_GET_SIZE(args) == 1 && (!keywords || PyDict_GET_SIZE(keywords) == 0)) {
      const nb::object alive = steps_;
      nb::object y = target_->step_one(PyTuple_GET_ITEM(args, 0));
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
  Steps* target_ = nullptr;
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
