// A queue of parallel jobs, for training code: the caller and the process's helper threads work on them. Serving code
// runs on its caller's thread.
#pragma once

#include <functional>

namespace mtaw {

// Calls work(0) on the caller's thread, and work(1), work(2), .. on up to workers - 1 helper threads as they become
// free, each number at most once. Returns when every call that started has ended. It does not wait for a helper that
// has not started: on a busy host that can take longer than all the work. So `work` takes its pieces from a counter
// that all workers share, and the result must not depend on which worker took which piece.
//
// Rethrows the first exception of any worker. May be called from several threads at once, and after a fork.
void share_work(int workers, const std::function<void(int)>& work);

}  // namespace mtaw
