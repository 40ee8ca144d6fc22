// The files of a bundle, by the caller's methods or the file system's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

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

struct FileAccess {
    FileMethods methods;
    bool map;  // where the methods can

    static FileAccess of_system(bool map);
};

// A file that is open as long as the object lives.
class OpenFile {
   public:
    // Throws BundleError if it cannot be opened, or has another size.
    OpenFile(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size);
    ~OpenFile() { methods_.close(methods_.context, file_); }
    OpenFile(const OpenFile&) = delete;
    OpenFile& operator=(const OpenFile&) = delete;

    std::uint64_t size() const { return size_; }
    // Throws BundleError.
    void read(std::uint64_t offset, void* buffer, std::size_t size) const;
    // Null where the methods cannot.
    const void* map() const { return methods_.map == nullptr ? nullptr : methods_.map(methods_.context, file_); }

   private:
    FileMethods methods_;
    std::string path_;
    void* file_ = nullptr;
    std::uint64_t size_ = 0;
};

// All bytes of one file, from a multiple of 64 on; as long as the object lives, and never changed.
class FileBytes {
   public:
    // Throws BundleError if it cannot be read, or has another size.
    FileBytes(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size = std::nullopt);

    const std::uint8_t* data() const { return data_; }
    std::size_t size() const { return size_; }
    std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }
    const std::string& path() const { return path_; }

   private:
    std::string path_;
    std::size_t size_ = 0;
    std::unique_ptr<OpenFile> mapped_;  // kept open while its bytes are in use
    AlignedFloats copy_;
    const std::uint8_t* data_ = nullptr;
};

// The SHA-256 of a file that is not kept, or only checks that it can be opened and has its size where hashed is false.
std::string hash_of_file(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size,
                         bool hashed);

}  // namespace mtaw
