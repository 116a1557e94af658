// Whole calls on weights that are packed once, and that may change between two calls.
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>

#include "bind.h"
#include "originals.h"
#include "prepared.h"

namespace nb = nanobind;

namespace elman {

namespace {

using Sizes = std::vector<Int>;
using Spots = std::vector<std::size_t>;

// What x and a state have to be to be answered at once, and what comes out.
struct Form {
  Dense dense;
  Property requires_grad;
  nb::object from_capsule, result;
  nb::list questions;         // (call, answer): what has to be as it was
  Int element, time, batch;   // of an element: bytes; axes of x
  Sizes x_row, y_row;         // sizes behind time and batch
  Spots x_at, y_at;           // places among the given and the own arrays
  std::vector<nb::object> state_sizes;
  std::vector<Sizes> state_shapes;
  std::vector<Spots> state_at;
  Spots final_at;
  bool several, zeros;  // the state is a tuple; without one it is zero

  bool is_alone() const {
    for (nb::handle pair : questions) {
      const nb::object now = nb::steal(PyObject_CallNoArgs(PyTuple_GET_ITEM(pair.ptr(), 0)));
      if (!now.is_valid()) throw nb::python_error();
      if (now.ptr() != PyTuple_GET_ITEM(pair.ptr(), 1)) return false;
    }
    return true;
  }
  bool takes(PyObject* tensor) const { return dense.fits(tensor) && requires_grad.of(tensor).ptr() == Py_False; }
  // The number of steps; 0: another call.
  Int steps_of(PyObject* x, Int B) const {
    const nb::object shape = dense.shape.of(x);
    const auto size = [&](Int axis) { return Int(PyLong_AsLongLong(PyTuple_GET_ITEM(shape.ptr(), Py_ssize_t(axis)))); };
    if (PyTuple_GET_SIZE(shape.ptr()) != Py_ssize_t(x_row.size()) + 2 || size(batch) != B) return 0;
    for (std::size_t i = 0; i < x_row.size(); ++i)
      if (size(Int(i) + 2) != x_row[i]) return 0;
    return size(time);
  }
  // The leaves of a state; false: another one.
  bool leaves(PyObject* state, std::vector<PyObject*>& found) const {
    if (state == Py_None) return zeros;
    if (!several) found.push_back(state);
    else if (!PyTuple_CheckExact(state) || PyTuple_GET_SIZE(state) != Py_ssize_t(state_at.size())) return false;
    else for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(state); ++i) found.push_back(PyTuple_GET_ITEM(state, i));
    for (std::size_t i = 0; i < found.size(); ++i)
      if (!takes(found[i]) || !dense.has(found[i], state_sizes[i])) return false;
    return true;
  }
};

class PackedCall : public Originals, public Quick {
 public:
  PackedCall(nb::object course, Int B, bool reverse, const std::vector<Address>& given, int threads, nb::object version,
             nb::object place)
      : Originals(std::move(version), std::move(place)), course_(std::move(course)),
        prepared_(std::make_unique<Prepared>(recipe_of(course_), B, reverse, given, threads)) {}

  // False: in use by another thread.
  bool run(Int T, const std::vector<Address>& given, const std::vector<Address>& own) {
    if (given.size() != prepared_->given_count() || own.size() != prepared_->own_count())
      throw std::invalid_argument("another number of arrays");
    if (is_busy_) return false;
    const Busy busy(is_busy_);
    work(T, given, own);
    return true;
  }

  void expect(nb::tuple dense, nb::object from_capsule, nb::object result, nb::list questions, Int element, bool batch_first,
              Sizes x_row, Spots x_at, Sizes y_row, Spots y_at, nb::list state_sizes, std::vector<Spots> state_at, Spots final_at,
              bool several, bool zeros) {
    const auto part = [&](std::size_t i) { return nb::borrow<nb::object>(dense[i]); };
    auto form = std::make_shared<Form>(Form{
        Dense(part(0), part(1), part(2), part(3), part(4), part(5), nb::cast<bool>(dense[7])), Property(part(6)), std::move(from_capsule),
        std::move(result), std::move(questions), element, batch_first, !batch_first, std::move(x_row), std::move(y_row), std::move(x_at),
        std::move(y_at), {}, {}, std::move(state_at), std::move(final_at), several, zeros});
    if (batch_first && prepared_->batch() != 1) throw std::invalid_argument("rows of a batch that lie apart");
    for (nb::handle sizes : state_sizes) {
      form->state_sizes.push_back(nb::borrow<nb::object>(sizes));
      form->state_shapes.push_back(nb::cast<Sizes>(sizes));
    }
    const std::size_t states = form->state_at.size(), givens = prepared_->given_count(), owns = prepared_->own_count();
    const auto below = [](const Spots& spots, std::size_t count) {
      for (std::size_t spot : spots)
        if (spot >= count) throw std::invalid_argument("an array that is not there");
    };
    below(form->x_at, givens), below(form->y_at, owns), below(form->final_at, owns);
    for (const Spots& spots : form->state_at) below(spots, givens);
    if (!states || form->state_sizes.size() != states || form->final_at.size() != states || form->y_at.size() + states != owns ||
        (!several && states != 1))
      throw std::invalid_argument("another number of states or of results");
    given_.assign(givens, 0), own_.assign(owns, 0);
    form_ = std::move(form);
  }
  void retire() { form_.reset(); }

  nb::object answer(PyObject* const* arguments, Py_ssize_t count) override {
    const std::shared_ptr<const Form> form = form_;  // it may be taken away meanwhile
    if (!form || is_busy_ || count < 1 || count > 2) return nb::none();
    const Busy busy(is_busy_);
    if (!form->takes(arguments[0])) return nb::none();
    const Int T = form->steps_of(arguments[0], prepared_->batch());
    leaves_.clear();
    if (T < 1 || !form->leaves(count > 1 ? arguments[1] : Py_None, leaves_) || !form->is_alone() || !same()) return nb::none();
    for (std::size_t at : form->x_at) given_[at] = place_of(arguments[0]);
    for (std::size_t j = 0; j < form->state_at.size(); ++j)
      for (std::size_t at : form->state_at[j]) given_[at] = leaves_.empty() ? 0 : place_of(leaves_[j]);
    Sizes shape(2);
    shape[std::size_t(form->time)] = T, shape[std::size_t(form->batch)] = prepared_->batch();
    shape.insert(shape.end(), form->y_row.begin(), form->y_row.end());
    Address address = 0;
    const nb::object y = new_tensor(ArrayShape(form->element, shape), form->from_capsule, &address);
    for (std::size_t at : form->y_at) own_[at] = address;
    nb::object state = nb::steal(PyTuple_New(Py_ssize_t(form->final_at.size())));
    for (std::size_t j = 0; j < form->final_at.size(); ++j) {
      nb::object leaf = new_tensor(ArrayShape(form->element, form->state_shapes[j]), form->from_capsule, &own_[form->final_at[j]]);
      PyTuple_SET_ITEM(state.ptr(), Py_ssize_t(j), leaf.release().ptr());
    }
    if (!form->several) state = nb::borrow<nb::object>(PyTuple_GET_ITEM(state.ptr(), 0));
    work(T, given_, own_);
    fetch();
    const nb::object both = nb::steal(PyTuple_Pack(2, y.ptr(), state.ptr())), arguments_of = nb::steal(PyTuple_Pack(1, both.ptr()));
    nb::object made = nb::steal(PyTuple_Type.tp_new(reinterpret_cast<PyTypeObject*>(form->result.ptr()), arguments_of.ptr(), nullptr));
    if (!made.is_valid()) throw nb::python_error();
    return made;
  }

  int traverse(visitproc visit, void* arg) const {
    Py_VISIT(course_.ptr());
    return Originals::traverse(visit, arg);
  }

 private:
  struct Busy {
    explicit Busy(bool& flag) : flag(flag) { flag = true; }
    ~Busy() { flag = false; }
    bool& flag;
  };

  void work(Int T, const std::vector<Address>& given, const std::vector<Address>& own) {
    nb::gil_scoped_release release;
    prepared_->run(T, given.data(), own.data());
  }

  nb::object course_;
  std::unique_ptr<Prepared> prepared_;
  std::shared_ptr<const Form> form_;
  bool is_busy_ = false;  // read and written under the interpreter's lock
  std::vector<Address> given_, own_;
  std::vector<PyObject*> leaves_;
};

int packed_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  return nb::inst_ready(self) ? nb::inst_ptr<PackedCall>(self)->traverse(visit, arg) : 0;
}

int packed_clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<PackedCall>(self)->clear();
  return 0;
}

PyType_Slot packed_slots[] = {{Py_tp_traverse, reinterpret_cast<void*>(packed_traverse)},
                              {Py_tp_clear, reinterpret_cast<void*>(packed_clear)},
                              {0, nullptr}};

}  // namespace

Quick& packed_call(nb::handle call) { return *nb::cast<PackedCall*>(call); }

void bind_packed(nb::module_& m) {
  nb::class_<PackedCall>(m, "PackedCall", nb::type_slots(packed_slots))
      .def(nb::init<nb::object, Int, bool, const std::vector<Address>&, int, nb::object, nb::object>(), nb::arg("recipe"), nb::arg("B"),
           nb::arg("reverse"), nb::arg("given"), nb::arg("threads"), nb::arg("version"), nb::arg("place"))
      .def("add", &PackedCall::add, nb::arg("tensor"), nb::arg("alias"), nb::arg("bytes"), nb::arg("counted"))
      .def("add_entry", &PackedCall::add_entry, nb::arg("mapping"), nb::arg("key"), nb::arg("value"))
      .def("same", &PackedCall::same)
      .def("unchanged", &PackedCall::unchanged)
      .def("run", &PackedCall::run, nb::arg("T"), nb::arg("given"), nb::arg("own"))
      .def("expect", &PackedCall::expect, nb::arg("dense"), nb::arg("from_capsule"), nb::arg("result"), nb::arg("questions"),
           nb::arg("element"), nb::arg("batch_first"), nb::arg("x_row"), nb::arg("x_at"), nb::arg("y_row"), nb::arg("y_at"),
           nb::arg("state_sizes"), nb::arg("state_at"), nb::arg("final_at"), nb::arg("several"), nb::arg("zeros"))
      .def("retire", &PackedCall::retire)
      .def_prop_ro("period", &PackedCall::period);
}

}  // namespace elman
