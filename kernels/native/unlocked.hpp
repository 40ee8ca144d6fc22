// The interpreter's lock, let go of while C++ works.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace mtaw {

// As pybind11::gil_scoped_release, but for the interpreter's end: a daemon thread that comes back then is ended by
// CPython, before 3.13 by unwinding its stack, which no destructor of pybind11 lets through and so ends the process
// with SIGABRT. Here such a thread sleeps until the process has ended.
class Unlocked {
  public:
    Unlocked() : state_(PyEval_SaveThread()) {}
    ~Unlocked() noexcept(false) {
        while (is_ending()) std::this_thread::sleep_for(std::chrono::hours(1));
        PyEval_RestoreThread(state_);
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

  private:
    static bool is_ending() {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }

    PyThreadState* state_;
};

}  // namespace mtaw
