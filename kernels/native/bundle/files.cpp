#include "bundle/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "bundle/failure.hpp"
#include "bundle/sha256.hpp"

namespace mtaw {
namespace {

struct SystemFile {
    int descriptor;
    std::size_t size;
    void* mapped;
};

int open_file(void*, const char* path, void** file, std::uint64_t* size) {
    // Not blocking: a pipe would wait for a writer forever.
    auto system_file = std::make_unique<SystemFile>();
    const int descriptor = ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return errno;
    struct stat status{};
    int failed = fstat(descriptor, &status) != 0 ? errno : 0;
    if (failed == 0 && !S_ISREG(status.st_mode)) failed = EINVAL;
    if (failed != 0) {
        ::close(descriptor);
        return failed;
    }
    *size = static_cast<std::uint64_t>(status.st_size);
    system_file->descriptor = descriptor;
    system_file->size = static_cast<std::size_t>(status.st_size);
    *file = system_file.release();
    return 0;
}

int read_file(void*, void* file, std::uint64_t offset, void* buffer, std::size_t size) {
    const int descriptor = static_cast<SystemFile*>(file)->descriptor;
    for (std::size_t done = 0; done < size;) {
        const ssize_t n_read =
            pread(descriptor, static_cast<char*>(buffer) + done, size - done, static_cast<off_t>(offset + done));
        if (n_read == 0) return EIO;  // it was cut short
        if (n_read < 0 && errno != EINTR) return errno;
        if (n_read > 0) done += static_cast<std::size_t>(n_read);
    }
    return 0;
}

const void* map_file(void*, void* file) {
    auto* const system_file = static_cast<SystemFile*>(file);
    if (system_file->size == 0) return nullptr;
    void* const mapped = mmap(nullptr, system_file->size, PROT_READ, MAP_SHARED, system_file->descriptor, 0);
    if (mapped == MAP_FAILED) return nullptr;
    system_file->mapped = mapped;
    return mapped;
}

void close_file(void*, void* file) {
    auto* const system_file = static_cast<SystemFile*>(file);
    if (system_file->mapped != nullptr) munmap(system_file->mapped, system_file->size);
    ::close(system_file->descriptor);
    delete system_file;
}

std::string reason_of(int error) { return error == EINVAL ? "it is not a regular file" : reason_of_system(error); }

}  // namespace

FileAccess FileAccess::of_system(bool map) { return {{nullptr, open_file, read_file, map_file, close_file}, map}; }

OpenFile::OpenFile(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size)
    : methods_(access.methods), path_(path) {
    const int failed = methods_.open(methods_.context, path.c_str(), &file_, &size_);
    if (failed != 0)
        throw bundle_error("cannot read " + path + " (" + reason_of(failed) + "); restore it or make it again");
    if (!size || *size == size_) return;
    methods_.close(methods_.context, file_);
    throw bundle_error(path + " has " + std::to_string(size_) + " bytes, not " + std::to_string(*size) + kRetrain);
}

void OpenFile::read(std::uint64_t offset, void* buffer, std::size_t size) const {
    const int failed = methods_.read(methods_.context, file_, offset, buffer, size);
    if (failed != 0)
        throw bundle_error("cannot read " + path_ + " (" + reason_of(failed) + "); restore it or make it again");
}

FileBytes::FileBytes(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size)
    : path_(path) {
    auto file = std::make_unique<OpenFile>(access, path, size);
    if (file->size() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 2) throw std::bad_alloc();
    size_ = static_cast<std::size_t>(file->size());
    const void* const mapped = access.map && size_ > 0 ? file->map() : nullptr;
    if (mapped != nullptr && reinterpret_cast<std::uintptr_t>(mapped) % 64 == 0) {
        data_ = static_cast<const std::uint8_t*>(mapped);
        mapped_ = std::move(file);
        return;
    }
    copy_ = AlignedFloats(static_cast<std::int64_t>((size_ + sizeof(float) - 1) / sizeof(float)));
    data_ = reinterpret_cast<const std::uint8_t*>(copy_.data());
    file->read(0, copy_.data(), size_);
}

std::string hash_of_file(const FileAccess& access, const std::string& path, std::optional<std::uint64_t> size,
                         bool hashed) {
    const OpenFile file(access, path, size);
    if (!hashed) return {};
    std::vector<std::uint8_t> buffer(std::size_t{1} << 20);
    Sha256 hash;
    for (std::uint64_t done = 0; done < file.size();) {
        const auto n_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), file.size() - done));
        file.read(done, buffer.data(), n_bytes);
        hash.add(buffer.data(), n_bytes);
        done += n_bytes;
    }
    return hash.hex();
}

}  // namespace mtaw
