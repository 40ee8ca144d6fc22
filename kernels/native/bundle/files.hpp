// The files of a bundle, by the caller's methods or the file system's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "bundle/sealed.hpp"
#include "encode/aligned.hpp"

namespace mtaw {

// How files are read. Functions that can fail return 0 or an errno value; `map` may be null, or return null, where the
// bytes are to be copied by `read`.
struct FileMethods {
    void* context;
    int (*open)(void* context, const char* path, void** file, std::uint64_t* size);
    int (*read)(void* context, void* file, std::uint64_t offset, void* buffer, std::size_t size);
    const void* (*map)(void* context, void* file);
    void (*close)(void* context, void* file);
};

enum class Mapping {
    read,  // the caller's own copy
    seal,  // a copy that cannot change, which related processes share (sealed.hpp); of the system's files alone
    map,   // the file itself, where the methods can: nobody may write into it
};

struct FileAccess {
    FileMethods methods;
    Mapping mapping;
    int threads = 1;  // that may read at once
    bool is_system = false;

    static FileAccess of_system(Mapping mapping, int threads = 1);
    // Of a file of the system: it changes when the file is replaced, even by an equal one. Empty without a file.
    static std::string identity(const std::string& path);
};

// Throws the BundleError of an errno value.
[[noreturn]] void refuse_to_read(const std::string& path, int error);

// What the system's `open` gives for an open descriptor, which is closed with it.
int file_of_descriptor(int descriptor, void** file, std::uint64_t* size);

// A file that is open as long as the object lives.
class OpenFile {
   public:
    // Throws BundleError if it cannot be opened, or has another size.
    OpenFile(const FileAccess& access, std::string path, std::optional<std::uint64_t> size = std::nullopt);
    ~OpenFile() { methods_.close(methods_.context, file_); }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    const std::string& path() const { return path_; }
    std::uint64_t size() const { return size_; }
    // Throws BundleError.
    void read(std::uint64_t offset, void* buffer, std::size_t size) const;
    // Null where the methods cannot.
    const void* map() const { return methods_.map == nullptr ? nullptr : methods_.map(methods_.context, file_); }
    // Of the system's files alone. Throws BundleError.
    std::shared_ptr<const SealedCopy> seal() const;
    // Writes 64 hex digits and a zero, or returns an errno value. Allocates nothing.
    int hash(char* digits) const;

   private:
    FileMethods methods_;
    std::string path_;
    void* file_ = nullptr;
    std::uint64_t size_ = 0;
};

// All bytes of one file, from a multiple of 64 on; as long as the object lives, and never changed.
class FileBytes {
   public:
    // Throws BundleError if it cannot be read.
    FileBytes(const FileAccess& access, std::unique_ptr<OpenFile> file);
    FileBytes(const FileAccess& access, const std::string& path)
        : FileBytes(access, std::make_unique<OpenFile>(access, path)) {}

    const std::uint8_t* data() const { return data_; }
    std::size_t size() const { return size_; }
    std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }
    const std::string& path() const { return path_; }
    // The copy that other processes share; null without.
    const SealedCopy* sealed() const { return sealed_.get(); }

   private:
    std::string path_;
    std::size_t size_ = 0;
    std::shared_ptr<const SealedCopy> sealed_;
    std::unique_ptr<OpenFile> mapped_;  // kept open while its bytes are in use
    AlignedFloats copy_;
    const std::uint8_t* data_ = nullptr;
};

}  // namespace mtaw
