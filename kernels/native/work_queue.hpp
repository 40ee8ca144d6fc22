// Work in pieces for whoever is there: the caller, and helper threads that the process keeps. For training code;
// serving code runs on its caller's thread.
#pragma once

#include <functional>

namespace mtaw {

// Calls work(0) on the caller's thread and work(1), work(2), .. on at most seats - 1 helpers, as they come, each seat
// once. Returns when all that came are done, and waits for no other: on a busy machine a helper may get a processor
// long after the caller has finished everything. So `work` takes its pieces from a counter that all seats share, and
// what comes out must not depend on who took which.
//
// Rethrows the first exception that any of them threw. May be called from several threads at once and after a fork.
void share_work(int seats, const std::function<void(int)>& work);

}  // namespace mtaw
