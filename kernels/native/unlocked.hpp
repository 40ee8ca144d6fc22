// The interpreter's lock, let go of while C++ works.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace mtaw {

// As pybind11::gil_scoped_release, except at the interpreter's end: a daemon thread that comes back then is ended by
// CPython, before 3.13 by unwinding its stack. That would end the process where a destructor lets nothing through, and
// crash it where one frees Python's objects, without its lock. Here such a thread sleeps until the process has ended.
// A call that begins while the interpreter ends is of the thread that ends it (by a finaliser, say), and comes back.
class Unlocked {
   public:
    Unlocked() : ends_it_(is_ending()), state_(PyEval_SaveThread()) {}
    ~Unlocked() {
        if (!ends_it_ && is_ending()) sleep_for_good();
#if defined(__GLIBCXX__)
        try {
            PyEval_RestoreThread(state_);
        } catch (abi::__forced_unwind&) {  // the end came while it waited
            sleep_for_good();
        }
#else
        PyEval_RestoreThread(state_);
#endif
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

   private:
    [[noreturn]] static void sleep_for_good() {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }

    static bool is_ending() {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }

    bool ends_it_;  // read while the lock is held
    PyThreadState* state_;
};

}  // namespace mtaw
