// The profile function of this thread, whoever set it and in whatever language: sys.setprofile can put back only one
// that is written in Python.
#include "bind.h"

namespace nb = nanobind;

namespace elman {

namespace {

struct Profile {
  Py_tracefunc function = nullptr;
  nb::object argument;

  void take() {
    const PyThreadState* thread = PyThreadState_Get();
    function = thread->c_profilefunc;
    argument = nb::borrow(thread->c_profileobj);
    PyEval_SetProfile(nullptr, nullptr);
  }
  void put_back() {
    PyEval_SetProfile(function, argument.ptr());
    function = nullptr;
    argument.reset();
  }
};

}  // namespace

void bind_profile(nb::module_& m) {
  nb::class_<Profile>(m, "Profile")
      .def(nb::init<>())
      .def("take", &Profile::take)
      .def("put_back", &Profile::put_back);
}

}  // namespace elman
