// Copies of files in memory that cannot change, shared by the processes of a service.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace mtaw {

// A process that maps a file dies of SIGBUS when another program truncates the file, as `cp` over a served bundle does;
// neither MAP_PRIVATE nor a hard link prevents that. So a file is copied once into a memfd, which is then sealed: it
// can neither shrink nor change. Processes with the same parent (a supervisor's workers) find each other's copies among
// their open files under /proc and map the same memory; where /proc does not allow it, each has its own copy. The
// memory is freed with the last process that maps it.
class SealedCopy {
   public:
    static bool is_supported();
    // This process's copy of an open file that is not empty, another worker's, or a new one. status: the file's, when
    // it was opened. Throws BundleError if it changed since, or there is not enough memory.
    static std::shared_ptr<const SealedCopy> of(int descriptor, const struct stat& status, const std::string& path);

    ~SealedCopy();
    SealedCopy(const SealedCopy&) = delete;
    SealedCopy& operator=(const SealedCopy&) = delete;

    const std::uint8_t* data() const { return static_cast<const std::uint8_t*>(memory_); }
    // Of the memfd, open as long as the object lives.
    int descriptor() const { return descriptor_; }

   private:
    SealedCopy(std::string name, std::size_t size) : name_(std::move(name)), size_(size) {}

    std::string name_;  // in the table of this process's copies
    std::size_t size_;
    int descriptor_ = -1;
    void* memory_ = nullptr;
};

}  // namespace mtaw
