// Memory that outlives a call. A training step needs the same hundred megabytes again, and getting fresh pages from the
// system costs about as much as a matrix product.
#pragma once

#include <cstddef>

namespace mtaw {

// `bytes` of uninitialized memory, aligned to 2 MiB. The two largest blocks let go of are kept for later calls (a
// call's scratch and the gradient it gives away); calls at the same time have blocks of their own.
class Block {
   public:
    explicit Block(std::size_t bytes);
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    std::byte* data() const { return data_; }

   private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

// Give the blocks that are kept back to the system, as after the last step of a training.
void release_kept_blocks();

}  // namespace mtaw
