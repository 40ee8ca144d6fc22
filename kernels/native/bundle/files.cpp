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
    struct stat status;  // when it was opened
    void* mapped;
};

int open_file(void*, const char* path, void** file, std::uint64_t* size) {
    // Not blocking: a pipe would wait for a writer forever.
    const int descriptor = ::open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    return descriptor < 0 ? errno : file_of_descriptor(descriptor, file, size);
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
    const auto size = static_cast<std::size_t>(system_file->status.st_size);
    if (size == 0) return nullptr;
    void* const mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, system_file->descriptor, 0);
    if (mapped == MAP_FAILED) return nullptr;
    system_file->mapped = mapped;
    return mapped;
}

void close_file(void*, void* file) {
    auto* const system_file = static_cast<SystemFile*>(file);
    if (system_file->mapped != nullptr)
        munmap(system_file->mapped, static_cast<std::size_t>(system_file->status.st_size));
    ::close(system_file->descriptor);
    delete system_file;
}

}  // namespace

void refuse_to_read(const std::string& path, int error) {
    if (error == ENOENT) throw bundle_error(path + " is missing; restore it or make it again", error);
    if (error == EINVAL) throw bundle_error(path + " is not a regular file; restore it or make it again");
    throw bundle_error("cannot read " + path + ": " + reason_of_system(error) + "; restore it or make it again", error);
}

int file_of_descriptor(int descriptor, void** file, std::uint64_t* size) {
    auto* const system_file = new (std::nothrow) SystemFile{descriptor, {}, nullptr};
    int failed = system_file == nullptr ? ENOMEM : fstat(descriptor, &system_file->status) != 0 ? errno : 0;
    if (failed == 0 && !S_ISREG(system_file->status.st_mode)) failed = EINVAL;
    if (failed != 0) {
        ::close(descriptor);
        delete system_file;
        if (failed == ENOMEM) throw std::bad_alloc();
        return failed;
    }
    *size = static_cast<std::uint64_t>(system_file->status.st_size);
    *file = system_file;
    return 0;
}

FileAccess FileAccess::of_system(Mapping mapping, int threads) {
    return {{nullptr, open_file, read_file, map_file, close_file}, mapping, threads, true};
}

std::string FileAccess::identity(const std::string& path) {
    struct stat status{};
    if (stat(path.c_str(), &status) != 0) return {};
    return std::to_string(status.st_ino) + " " + std::to_string(status.st_mtim.tv_sec) + " " +
           std::to_string(status.st_mtim.tv_nsec);
}

OpenFile::OpenFile(const FileAccess& access, std::string path, std::optional<std::uint64_t> size)
    : methods_(access.methods), path_(std::move(path)) {
    if (path_.find('\0') != std::string::npos)  // the system would open what is named before it
        throw bundle_error(std::string("a name that begins with ") + path_.c_str() + " has a zero byte; name a file");
    const int failed = methods_.open(methods_.context, path_.c_str(), &file_, &size_);
    if (failed != 0) refuse_to_read(path_, failed);
    if (!size || *size == size_) return;
    methods_.close(methods_.context, file_);
    throw bundle_error(path_ + " is damaged: it has " + with_commas(size_) + " bytes, not " + with_commas(*size) +
                       "; restore it or make it again");
}

void OpenFile::read(std::uint64_t offset, void* buffer, std::size_t size) const {
    const int failed = methods_.read(methods_.context, file_, offset, buffer, size);
    if (failed != 0) refuse_to_read(path_, failed);
}

std::shared_ptr<const SealedCopy> OpenFile::seal() const {
    const auto* const system_file = static_cast<const SystemFile*>(file_);
    return SealedCopy::of(system_file->descriptor, system_file->status, path_);
}

int OpenFile::hash(char* digits) const {
    std::uint8_t buffer[1 << 16];
    Sha256 hash;
    for (std::uint64_t done = 0; done < size_;) {
        const auto n_bytes = static_cast<std::size_t>(std::min<std::uint64_t>(sizeof buffer, size_ - done));
        if (const int failed = methods_.read(methods_.context, file_, done, buffer, n_bytes); failed != 0)
            return failed;
        hash.add(buffer, n_bytes);
        done += n_bytes;
    }
    hash.write_hex(digits);
    return 0;
}

FileBytes::FileBytes(const FileAccess& access, std::unique_ptr<OpenFile> file) : path_(file->path()) {
    if (file->size() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / 2) throw std::bad_alloc();
    size_ = static_cast<std::size_t>(file->size());
    if (access.mapping == Mapping::seal && size_ > 0 && SealedCopy::is_supported()) {
        sealed_ = file->seal();
        data_ = sealed_->data();
        return;
    }
    const void* const mapped = access.mapping == Mapping::map && size_ > 0 ? file->map() : nullptr;
    if (mapped != nullptr && reinterpret_cast<std::uintptr_t>(mapped) % 64 == 0) {
        data_ = static_cast<const std::uint8_t*>(mapped);
        mapped_ = std::move(file);
        return;
    }
    copy_ = AlignedFloats(static_cast<std::int64_t>((size_ + sizeof(float) - 1) / sizeof(float)));
    data_ = reinterpret_cast<const std::uint8_t*>(copy_.data());
    file->read(0, copy_.data(), size_);
}

}  // namespace mtaw
