#include "session.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace mtaw {

void SessionState::append(const std::int32_t* clicks, std::int64_t n, float* out, EncodeScratch& scratch,
                          std::vector<std::int32_t>* window) {
    if (n < 1) throw std::invalid_argument("there is no click to append; give at least one");
    encoder_->check(clicks, n);
    const std::lock_guard<std::mutex> lock(mutex_.get());
    repair(scratch);
    check_own();
    extend(*encoder_, size(), clicks, n, out, scratch, window);
}

void SessionState::advance(const Encoder& encoder, const std::int32_t* clicks, std::int64_t n_clicks,
                           std::int64_t n_new, float* out, EncodeScratch& scratch) {
    encoder.check(clicks + n_clicks - n_new, n_new);
    const std::lock_guard<std::mutex> lock(mutex_.get());
    std::int64_t n_before = size();
    if (is_inconsistent_ || !encoder.agrees(made_by_, clicks_->data(), n_before)) {
        encoder.check(clicks, n_clicks);
        n_before = 0;
        n_new = n_clicks;
    }
    if (n_new > 0) {
        extend(encoder, n_before, clicks + n_clicks - n_new, n_new, out, scratch, nullptr);
    } else {
        query_window(encoder, out, scratch);
    }
}

void SessionState::extend(const Encoder& encoder, std::int64_t n_before, const std::int32_t* clicks, std::int64_t n,
                          float* out, EncodeScratch& scratch, Clicks* window) {
    const EncodeModel& model = encoder.model_;
    const std::int64_t n_total = n_before + n, window_length = std::min(n_total, encoder.max_len_);
    const bool slides = n_total > window_length, begins = n_before == 0;
    const std::int64_t capacity = std::min(window_length + window_length / 10, encoder.max_len_);
    // All that can throw comes first, so that a failure leaves the session as it was.
    std::unique_ptr<Clicks> replacing;
    if (begins || slides || static_cast<std::int64_t>(clicks_->capacity()) < window_length) {
        const std::int64_t n_kept = std::min(n_before, std::max<std::int64_t>(window_length - n, 0));
        replacing = std::make_unique<Clicks>();
        replacing->reserve(static_cast<std::size_t>(capacity));
        replacing->assign(clicks_->end() - n_kept, clicks_->end());
        replacing->insert(replacing->end(), clicks + n - (window_length - n_kept), clicks + n);
    }
    AlignedFloats larger;
    if (begins || interests_.size() < window_length * model.width) {
        larger = AlignedFloats(capacity * model.width);
        if (!slides) std::copy_n(interests_.data(), n_before * model.width, larger.data());
    }
    float* const work = scratch.reserve(encode_work(model.width, window_length));
    if (window != nullptr) window->reserve(static_cast<std::size_t>(window_length));
    is_inconsistent_ = true;
    if (replacing) {
        clicks_.swap(replacing);
    } else {
        clicks_->insert(clicks_->end(), clicks, clicks + n);
    }
    if (larger.size() > 0) interests_ = std::move(larger);
    // A window that has slid has other positions throughout.
    encoder.kernel_->track(model, clicks_->data(), slides ? 0 : n_before, window_length, interests_.data(), work);
    encoder.kernel_->enhance(model, clicks_->data(), interests_.data(), window_length, out, work);
    made_by_ = encoder.key_;
    is_inconsistent_ = false;
    if (window != nullptr) *window = *clicks_;
}

void SessionState::repair(EncodeScratch& scratch) {
    if (!is_inconsistent_) return;
    encoder_->check(clicks_->data(), size());
    AlignedFloats interests(size() * encoder_->model_.width);
    float* const work = scratch.reserve(encode_work(encoder_->model_.width, size()));
    encoder_->kernel_->track(encoder_->model_, clicks_->data(), 0, size(), interests.data(), work);
    interests_ = std::move(interests);
    made_by_ = encoder_->key_;
    is_inconsistent_ = false;
}

void SessionState::query(float* out, EncodeScratch& scratch) {
    const std::lock_guard<std::mutex> lock(mutex_.get());
    repair(scratch);
    check_own();
    query_window(*encoder_, out, scratch);
}

void SessionState::check_own() const {
    if (size() > 0 && !encoder_->agrees(made_by_, clicks_->data(), size())) {
        throw std::invalid_argument(
            "the session has clicks that its own encoder does not know; continue with the newer encoder");
    }
}

void SessionState::query_window(const Encoder& encoder, float* out, EncodeScratch& scratch) const {
    if (clicks_->empty()) throw std::invalid_argument("the session has no clicks yet; append one first");
    const EncodeModel& model = encoder.model_;
    float* const work = scratch.reserve(encode_work(model.width, size()));
    encoder.kernel_->enhance(model, clicks_->data(), interests_.data(), size(), out, work);
}

std::vector<std::int32_t> SessionState::clicks() const {
    const std::lock_guard<std::mutex> lock(mutex_.get());
    return *clicks_;
}

std::int64_t SessionState::n_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_.get());
    return static_cast<std::int64_t>(clicks_->capacity() * sizeof(std::int32_t)) +
           interests_.size() * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace mtaw
