// What Python objects hold, remembered and compared. For bind.cpp alone.
#pragma once

#include <nanobind/nanobind.h>

#include <cstring>
#include <string>
#include <vector>

namespace elman {

namespace nb = nanobind;

// Places in Python objects that are watched for a change. What a place held is compared by identity, at any number of
// places: each level of a nest has its own. The garbage collector sees through it, for what is watched holds, by a long
// way round, the watch.
class Watch {
 public:
  enum class Kind { entry, scan, list, iterated, type, member, cell, function, length, bytes, variable, answer };

  // nothing: the object that stands for "there is none" among the values (entry, type, member, cell, variable), or for
  // "any" (scan, list).
  explicit Watch(nb::object nothing) : nothing_(nothing.release().ptr()) {}
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { clear(); }

  // All of these return the number of the check.

  // Entry `key` of a dictionary.
  Py_ssize_t add_entry(nb::dict mapping, nb::object key, nb::handle value) {
    return add({Kind::entry, own(mapping), own(key), own_or_null(value)});
  }
  // All keys of a dictionary in order, and the values of some of them.
  Py_ssize_t add_scan(nb::dict mapping, nb::list keys, nb::list values) { return add_pairs(Kind::scan, mapping, keys, values); }
  // Attributes of a class, inherited ones too.
  Py_ssize_t add_type(nb::type_object kind, nb::list names, nb::list values) {
    const Py_ssize_t number = add_pairs(Kind::type, kind, names, values);
    checks_.back().tag = tag_of(checks_.back());
    return number;
  }
  // The items of a list; of anything that can be iterated without a side effect (a set, a deque).
  Py_ssize_t add_list(nb::list what, nb::list items) { return add_items(Kind::list, what, items); }
  Py_ssize_t add_iterated(nb::object what, nb::list items) { return add_items(Kind::iterated, what, items); }
  // A slot of an object, by its descriptor.
  Py_ssize_t add_member(nb::object what, nb::object descriptor, nb::handle value) {
    return add({Kind::member, own(what), own(descriptor), own_or_null(value)});
  }
  Py_ssize_t add_cell(nb::object cell, nb::handle value) {
    if (!PyCell_Check(cell.ptr())) throw std::invalid_argument("expected a closure cell");
    return add({Kind::cell, own(cell), nullptr, own_or_null(value)});
  }
  // Code, defaults and keyword defaults of a function.
  Py_ssize_t add_function(nb::object function) {
    if (!PyFunction_Check(function.ptr())) throw std::invalid_argument("expected a function");
    PyObject* f = function.ptr();
    const std::size_t begin = arena_.size();
    for (PyObject* part : {PyFunction_GET_CODE(f), PyFunction_GET_DEFAULTS(f), PyFunction_GET_KW_DEFAULTS(f)})
      arena_.push_back(Py_XNewRef(part));
    return add({Kind::function, own(function), nullptr, nullptr, begin, arena_.size()});
  }
  Py_ssize_t add_length(nb::object what, Py_ssize_t length) {
    Check check{Kind::length, own(what), nullptr, nullptr};
    check.length = length;
    return add(check);
  }
  // The contents of an object with a buffer, byte by byte.
  Py_ssize_t add_bytes(nb::object what) {
    std::string now;
    if (!read_bytes(what.ptr(), now, nullptr)) throw std::invalid_argument("expected an object with a buffer");
    bytes_.push_back(std::move(now));
    Check check{Kind::bytes, own(what), nullptr, nullptr};
    check.begin = bytes_.size() - 1;
    return add(check);
  }
  Py_ssize_t add_variable(nb::object variable, nb::handle value) {
    if (!PyContextVar_CheckExact(variable.ptr())) throw std::invalid_argument("expected a context variable");
    return add({Kind::variable, own(variable), nullptr, own_or_null(value)});
  }
  // What a call without arguments returns: a plain value.
  Py_ssize_t add_answer(nb::object call, nb::object value) { return add({Kind::answer, own(call), nullptr, own(value)}); }

  // The number of the first check that no longer holds, or -1.
  Py_ssize_t first_change() {
    for (std::size_t i = 0; i < checks_.size(); ++i)
      if (!holds(checks_[i])) return Py_ssize_t(i);
    return -1;
  }

  void clear() {
    std::vector<Check> checks;
    std::vector<PyObject*> arena;
    checks.swap(checks_), arena.swap(arena_);
    bytes_.clear();
    Py_CLEAR(nothing_);
    for (const Check& c : checks) Py_XDECREF(c.what), Py_XDECREF(c.key), Py_XDECREF(c.value);
    for (PyObject* o : arena) Py_XDECREF(o);
  }

  int traverse(visitproc visit, void* arg) const {
    for (const Check& c : checks_) {
      Py_VISIT(c.what);
      Py_VISIT(c.key);
      Py_VISIT(c.value);
    }
    for (PyObject* o : arena_) Py_VISIT(o);
    Py_VISIT(nothing_);
    return 0;
  }

 private:
  struct Check {
    Kind kind;
    PyObject *what, *key, *value;
    std::size_t begin = 0, end = 0;  // in the arena: keys and values by turns, or items
    Py_ssize_t length = 0;
    unsigned tag = 0;
  };

  static PyObject* own(nb::handle o) { return Py_NewRef(o.ptr()); }
  PyObject* own_or_null(nb::handle o) const { return o.ptr() == nothing_ ? nullptr : Py_NewRef(o.ptr()); }

  Py_ssize_t add(const Check& check) {
    checks_.push_back(check);
    return Py_ssize_t(checks_.size()) - 1;
  }
  Py_ssize_t add_pairs(Kind kind, nb::handle what, nb::list keys, nb::list values) {
    if (keys.size() != values.size()) throw std::invalid_argument("expected a value for each key");
    const std::size_t begin = arena_.size();
    for (std::size_t i = 0; i < keys.size(); ++i) arena_.push_back(own(keys[i])), arena_.push_back(own_or_null(values[i]));
    return add({kind, own(what), nullptr, nullptr, begin, arena_.size()});
  }
  Py_ssize_t add_items(Kind kind, nb::handle what, nb::list items) {
    const std::size_t begin = arena_.size();
    for (nb::handle item : items) arena_.push_back(own_or_null(item));
    return add({kind, own(what), nullptr, nullptr, begin, arena_.size()});
  }

  bool holds(Check& c) {
    switch (c.kind) {
      case Kind::entry: return found(PyDict_GetItemWithError(c.what, c.key)) == c.value;
      case Kind::scan: return same_entries(c);
      case Kind::list: return same_list(c);
      case Kind::iterated: return same_iterated(c);
      case Kind::type: return same_type(c);
      case Kind::member: return taken(Py_TYPE(c.key)->tp_descr_get(c.key, c.what, reinterpret_cast<PyObject*>(Py_TYPE(c.what))), PyExc_AttributeError) == c.value;
      case Kind::cell: return PyCell_GET(c.what) == c.value;
      case Kind::function:
        return PyFunction_GET_CODE(c.what) == arena_[c.begin] && PyFunction_GET_DEFAULTS(c.what) == arena_[c.begin + 1] &&
               PyFunction_GET_KW_DEFAULTS(c.what) == arena_[c.begin + 2];
      case Kind::length: return length_of(c.what) == c.length;
      case Kind::bytes: {
        std::string unused;
        return read_bytes(c.what, unused, &bytes_[c.begin]);
      }
      case Kind::variable: {
        PyObject* now = nullptr;
        if (PyContextVar_Get(c.what, nullptr, &now) < 0) throw nb::python_error();
        Py_XDECREF(now);
        return now == c.value;
      }
      case Kind::answer: return same_answer(c);
    }
    return false;
  }

  static PyObject* found(PyObject* now) {
    if (!now && PyErr_Occurred()) throw nb::python_error();
    return now;
  }
  // A new reference, or none where the given error says so: as an address alone.
  static PyObject* taken(PyObject* now, PyObject* none) {
    if (!now) {
      if (!PyErr_ExceptionMatches(none)) throw nb::python_error();
      PyErr_Clear();
    }
    Py_XDECREF(now);
    return now;
  }
  static Py_ssize_t length_of(PyObject* what) {
    const Py_ssize_t now = PyDict_Check(what) ? PyDict_GET_SIZE(what) : PyObject_Size(what);
    if (now < 0) throw nb::python_error();
    return now;
  }

  bool same_entries(const Check& c) const {
    if (PyDict_GET_SIZE(c.what) != Py_ssize_t(c.end - c.begin) / 2) return false;
    PyObject *key, *value;
    Py_ssize_t at = 0;
    for (std::size_t i = c.begin; PyDict_Next(c.what, &at, &key, &value); i += 2)
      if (key != arena_[i] || (arena_[i + 1] && value != arena_[i + 1])) return false;
    return true;
  }
  bool same_list(const Check& c) const {
    if (PyList_GET_SIZE(c.what) != Py_ssize_t(c.end - c.begin)) return false;
    for (std::size_t i = c.begin; i < c.end; ++i)
      if (arena_[i] && PyList_GET_ITEM(c.what, i - c.begin) != arena_[i]) return false;
    return true;
  }
  bool same_iterated(const Check& c) const {
    if (length_of(c.what) != Py_ssize_t(c.end - c.begin)) return false;
    nb::object items = nb::steal(PyObject_GetIter(c.what));
    if (!items.is_valid()) throw nb::python_error();
    for (std::size_t i = c.begin; i < c.end; ++i) {
      PyObject* item = PyIter_Next(items.ptr());
      if (!item && PyErr_Occurred()) throw nb::python_error();
      Py_XDECREF(item);
      if (item != arena_[i]) return false;
    }
    return true;
  }
  // A class whose version is the same has the same attributes; where it is not known, they are looked up.
  bool same_type(Check& c) const {
    const unsigned tag = tag_of(c);
    if (tag && tag == c.tag) return true;
    for (std::size_t i = c.begin; i < c.end; i += 2)
      if (_PyType_Lookup(reinterpret_cast<PyTypeObject*>(c.what), arena_[i]) != arena_[i + 1]) return false;
    c.tag = tag_of(c);
    return true;
  }
  static unsigned tag_of(const Check& c) {
    const PyTypeObject* type = reinterpret_cast<PyTypeObject*>(c.what);
    return PyType_HasFeature(const_cast<PyTypeObject*>(type), Py_TPFLAGS_VALID_VERSION_TAG) ? type->tp_version_tag : 0;
  }
  bool same_answer(const Check& c) const {
    nb::object now = nb::steal(PyObject_CallNoArgs(c.what));
    if (!now.is_valid()) throw nb::python_error();
    if (now.ptr() == c.value) return true;
    if (Py_TYPE(now.ptr()) != Py_TYPE(c.value)) return false;
    const int equal = PyObject_RichCompareBool(now.ptr(), c.value, Py_EQ);
    if (equal < 0) throw nb::python_error();
    return equal;
  }

  // Whether the bytes, and what they are said to be, are as `before`; without it, they are put into `out`.
  static bool read_bytes(PyObject* what, std::string& out, const std::string* before) {
    Py_buffer view;
    if (PyObject_GetBuffer(what, &view, PyBUF_FULL_RO) < 0) {
      PyErr_Clear();
      return false;
    }
    std::string kind = view.format ? view.format : "B";
    for (int i = 0; i < view.ndim; ++i) kind += ' ' + std::to_string(view.shape ? view.shape[i] : view.len);
    kind += '\n';
    const bool dense = PyBuffer_IsContiguous(&view, 'C');
    bool same = !before || (before->size() == kind.size() + view.len && !before->compare(0, kind.size(), kind));
    if (same && dense && before) {
      same = !std::memcmp(before->data() + kind.size(), view.buf, view.len);
    } else if (same) {
      std::string copy(view.len, '\0');
      if (PyBuffer_ToContiguous(copy.data(), &view, view.len, 'C') < 0) PyErr_Clear(), same = false;
      if (before) same = same && !before->compare(kind.size(), std::string::npos, copy);
      else out = kind + copy;
    }
    PyBuffer_Release(&view);
    return same;
  }

  PyObject* nothing_;
  std::vector<Check> checks_;
  std::vector<PyObject*> arena_;
  std::vector<std::string> bytes_;
};

}  // namespace elman
