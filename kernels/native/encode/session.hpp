// The encoder's state of one session: append a click and get the new query without redoing the session.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "aligned.hpp"
#include "encoder.hpp"
#include "per_process.hpp"

namespace mtaw {

// An interest l_t is final once made, so a click costs one row of each layer. What is kept of a click is its id and its
// l_t: 452 bytes at d = 100, and at most 1/10 of that as spare capacity. Past max_len clicks the window and all
// positions slide, so the window is encoded again.
//
// Every query equals, to the bit, Encoder::encode of the clicks so far. All members may be called by any number of
// threads at once; calls on one session wait for each other. The encoder must outlive the state.
class SessionState {
   public:
    explicit SessionState(const Encoder& encoder) : encoder_(&encoder) {}

    // Appends n clicks and writes the query after the last one, float32[d]. Where `window` is given, it receives the
    // clicks the query was made from. Throws std::invalid_argument if n < 1, or where `advance` has brought clicks that
    // the session's own encoder does not know, and std::out_of_range on a click outside the catalog; the state then
    // stays as it was.
    void append(const std::int32_t* clicks, std::int64_t n, float* out, EncodeScratch& scratch,
                std::vector<std::int32_t>* window = nullptr);

    // The query of `encoder` after all n_clicks clicks of the session, of which the last n_new are new to it: what
    // `append` and `query` give, but by an encoder that may know other items than the one before. If it has other
    // vectors for the clicks so far, they are encoded again. The encoder need not outlive the call. Throws as `append`.
    void advance(const Encoder& encoder, const std::int32_t* clicks, std::int64_t n_clicks, std::int64_t n_new,
                 float* out, EncodeScratch& scratch);

    // The query after the last click once more. Throws std::invalid_argument on a session without clicks, else as
    // `append`.
    void query(float* out, EncodeScratch& scratch);

    // The clicks that count: the last max_len.
    std::vector<std::int32_t> clicks() const;

    // Bytes held on the heap.
    std::int64_t n_bytes() const;

   private:
    using Clicks = std::vector<std::int32_t>;

    // The rest is called with the mutex held.
    std::int64_t size() const { return static_cast<std::int64_t>(clicks_->size()); }
    // Adds n clicks to the first n_before of the session: all of them, or none to start over.
    void extend(const Encoder& encoder, std::int64_t n_before, const std::int32_t* clicks, std::int64_t n, float* out,
                EncodeScratch& scratch, Clicks* window);
    // Encodes the clicks again if a fork interrupted a change. Throws as Encoder::check.
    void repair(EncodeScratch& scratch);
    void check_own() const;
    void query_window(const Encoder& encoder, float* out, EncodeScratch& scratch) const;

    const Encoder* encoder_;
    PerProcess<std::mutex> mutex_;
    // A child of a fork during a change finds the clicks before it or after it: they grow in place, by one store of
    // their number, or are replaced, by one store of this pointer.
    std::unique_ptr<Clicks> clicks_ = std::make_unique<Clicks>();
    AlignedFloats interests_;  // [clicks, width]
    Encoder::Key made_by_;
    // Set while the three above change. It is seen set, with the mutex held, only in a child of a fork during a change;
    // of `interests_` not even the size is right then.
    std::atomic<bool> is_inconsistent_{false};
};

}  // namespace mtaw
