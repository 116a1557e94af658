// Tensors that weights were packed from, watched for a change; and who answers a call at once. For bind*.cpp alone.
#pragma once

#include <nanobind/nanobind.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "array.h"
#include "live.h"

namespace elman {

namespace nb = nanobind;

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

// A new array, as the tensor that `from_capsule` makes of it.
inline nb::object new_tensor(const ArrayShape& shape, const nb::object& from_capsule, Address* address) {
  const nb::object capsule = nb::steal(shape.make(address));
  nb::object made = nb::steal(PyObject_CallOneArg(from_capsule.ptr(), capsule.ptr()));
  if (!made.is_valid()) throw nb::python_error();
  return made;
}

// A method without arguments, or with arguments and keywords, called without a detour.
class Method {
 public:
  Method(nb::object descriptor, int flags) : descriptor_(std::move(descriptor)) {
    if (!Py_IS_TYPE(descriptor_.ptr(), &PyMethodDescr_Type)) throw std::invalid_argument("expected the descriptor of a method");
    method_ = reinterpret_cast<PyMethodDescrObject*>(descriptor_.ptr())->d_method;
    if (method_->ml_flags != flags) throw std::invalid_argument("expected the descriptor of a method with other arguments");
  }
  nb::object of(PyObject* object) const { return checked(method_->ml_meth(object, nullptr)); }
  nb::object of(PyObject* object, PyObject* arguments) const {
    const auto ask = reinterpret_cast<PyCFunctionWithKeywords>(reinterpret_cast<void (*)()>(method_->ml_meth));
    return checked(ask(object, arguments, nullptr));
  }
  PyObject* descriptor() const { return descriptor_.ptr(); }

 private:
  static nb::object checked(PyObject* found) {
    nb::object value = nb::steal(found);
    if (!value.is_valid()) throw nb::python_error();
    return value;
  }

  nb::object descriptor_;
  const PyMethodDef* method_;
};

// What a tensor has to be to be read where it lies: of this class and dtype, dense, in the memory of the processor.
struct Dense {
  nb::object kind, dtype;
  Property shape, type, on_cpu;
  Method contiguous;
  bool elsewhere;  // tensors may lie in memory of another device
  nb::object nothing = nb::steal(PyTuple_New(0));

  Dense(nb::object kind, nb::object dtype, nb::object shape, nb::object type, nb::object on_cpu, nb::object contiguous, bool elsewhere)
      : kind(std::move(kind)), dtype(std::move(dtype)), shape(std::move(shape)), type(std::move(type)), on_cpu(std::move(on_cpu)),
        contiguous(std::move(contiguous), METH_VARARGS | METH_KEYWORDS), elsewhere(elsewhere) {}

  bool fits(PyObject* x) const {
    if (Py_TYPE(x) != reinterpret_cast<PyTypeObject*>(kind.ptr())) return false;
    if (type.of(x).ptr() != dtype.ptr() || (elsewhere && on_cpu.of(x).ptr() != Py_True)) return false;
    return contiguous.of(x, nothing.ptr()).ptr() == Py_True;
  }
  bool has(PyObject* x, const nb::object& sizes) const {
    const int same = PyObject_RichCompareBool(shape.of(x).ptr(), sizes.ptr(), Py_EQ);
    if (same < 0) throw nb::python_error();
    return same;
  }
};

// Who answers a call in the core, or gives None for what it is not made for.
class Quick {
 public:
  virtual ~Quick() = default;
  virtual nb::object answer(PyObject* const* arguments, Py_ssize_t count) = 0;
};

// Tensors as they were: where each is found, which version it has by its owner's count, where its memory lies, and its
// values. The way to ask for a version (a property) and for the memory (a method without arguments) is given by the
// descriptors of the tensors' type.
class Originals {
 public:
  Originals(nb::object version, nb::object place) : place_(std::move(place), METH_NOARGS), version_(std::move(version)) {}
  Originals(const Originals&) = delete;
  Originals& operator=(const Originals&) = delete;

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

  Int period() const { return values_.period(); }
  // What the next look will read, asked for ahead of it.
  void fetch() const { values_.fetch(); }

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

 protected:
  Address place_of(PyObject* tensor) const { return reinterpret_cast<Address>(PyLong_AsVoidPtr(place_.of(tensor).ptr())); }

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
    if (!PyObject_TypeCheck(tensor, PyDescr_TYPE(place_.descriptor()))) throw nb::type_error("expected a tensor");
  }
  long long version_of(PyObject* tensor) const {
    return PyLong_AsLongLong(version_.of(tensor).ptr());
  }

  Method place_;
  Property version_;
  std::vector<Entry> entries_;
  std::vector<Watched> tensors_;
  Values values_;
};

}  // namespace elman
