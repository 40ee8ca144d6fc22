#include "bundle/sealed.hpp"

#include "bundle/failure.hpp"

#if defined(__linux__)

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <thread>

namespace mtaw {
namespace {

// <linux/memfd.h> and <linux/fcntl.h>; an old C library has no names for them.
constexpr unsigned kCloseOnExec = 1, kAllowSealing = 2;
constexpr int kAddSeals = 1033, kGetSeals = 1034, kSeals = 1 | 2 | 4 | 8;  // no seals more, shrinking, growing, writing

constexpr std::chrono::seconds kLongestWait(20);  // for a process that copies the same file

struct Copies {
    std::mutex mutex;  // never held while a file is read
    std::map<std::string, std::weak_ptr<const SealedCopy>> by_name;
};

// Of this process. Never freed: a thread may still free a copy while the process ends. A fork waits for the mutex,
// which would stay locked in a child if another thread had it.
Copies& copies() {
    alignas(Copies) static char storage[sizeof(Copies)];
    static Copies* const all = [] {
        const auto unlock = [] { copies().mutex.unlock(); };
        pthread_atfork([] { copies().mutex.lock(); }, unlock, unlock);
        return new (storage) Copies;
    }();
    return *all;
}

class Descriptor {
   public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    int get() const { return number_; }
    int release() {
        const int number = number_;
        number_ = -1;
        return number;
    }

   private:
    int number_;
};

// Changes with the file's contents.
std::string name_of(const struct stat& status) {
    const auto nanoseconds = [](const timespec& time) {
        return static_cast<unsigned long long>(time.tv_sec) * 1'000'000'000ULL +
               static_cast<unsigned long long>(time.tv_nsec);
    };
    char name[120];
    std::snprintf(name, sizeof name, "mtaw-%llx-%llx-%llx-%llx-%llx", static_cast<unsigned long long>(status.st_dev),
                  static_cast<unsigned long long>(status.st_ino), static_cast<unsigned long long>(status.st_size),
                  nanoseconds(status.st_mtim), nanoseconds(status.st_ctim));
    return name;
}

// Calls visit(entry's name) for the entries of a folder until it returns a descriptor, and returns that; else -1.
template <typename Visit>
int search_folder(const char* path, const Visit& visit) {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path), closedir);
    if (folder == nullptr) return -1;  // it has ended, or belongs to another user
    while (const dirent* const entry = readdir(folder.get())) {
        if (entry->d_name[0] == '.') continue;
        if (const int found = visit(entry->d_name); found >= 0) return found;
    }
    return -1;
}

// The sealed copy of that name among the open files of a process; -1 without one.
int open_copy_of(long process, const std::string& name) {
    char folder[64];
    std::snprintf(folder, sizeof folder, "/proc/%ld/fd", process);
    const std::string wanted = "/memfd:" + name + " ";
    return search_folder(folder, [&](const char* entry) {
        char link[360], target[200];
        std::snprintf(link, sizeof link, "%s/%s", folder, entry);
        const ssize_t length = readlink(link, target, sizeof target);
        if (length < static_cast<ssize_t>(wanted.size()) ||
            wanted.compare(0, wanted.size(), target, wanted.size()) != 0)
            return -1;
        Descriptor descriptor(::open(link, O_RDONLY | O_CLOEXEC));
        // Without seals it is still being filled, or it is no memfd.
        const int seals = descriptor.get() < 0 ? 0 : fcntl(descriptor.get(), kGetSeals);
        return seals >= 0 && (seals & kSeals) == kSeals ? descriptor.release() : -1;
    });
}

// That of the parent, or of a process with the same parent, this one too: another library may have it. -1 without one.
int open_siblings_copy(const std::string& name) {
    const long parent = getppid();
    if (const int found = open_copy_of(parent, name); found >= 0) return found;
    char folder[64];
    std::snprintf(folder, sizeof folder, "/proc/%ld/task", parent);
    return search_folder(folder, [&](const char* task) {
        char path[360];
        std::snprintf(path, sizeof path, "%s/%s/children", folder, task);
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> children(std::fopen(path, "re"), std::fclose);
        if (children == nullptr) return -1;  // a kernel that does not list them
        for (long child = 0; std::fscanf(children.get(), "%ld", &child) == 1;) {
            if (const int found = open_copy_of(child, name); found >= 0) return found;
        }
        return -1;
    });
}

// The change time alone does not tell: it also changes when a name of the file is removed or replaced.
bool was_written(const struct stat& before, const struct stat& after) {
    const auto differ = [](const timespec& a, const timespec& b) {
        return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
    };
    if (before.st_size != after.st_size || differ(before.st_mtim, after.st_mtim)) return true;
    return differ(before.st_ctim, after.st_ctim) && after.st_nlink >= before.st_nlink;
}

int new_copy(int source, const struct stat& before, const std::string& name, const std::string& path) {
    const auto changed = [&] {
        return bundle_error(path + " changed while it was read; write the whole bundle, then load it again");
    };
    const auto fail = [&](int error) {
        return bundle_error("cannot copy " + path + " (" + with_commas(static_cast<std::uint64_t>(before.st_size)) +
                                " bytes) into memory: " + reason_of_system(error) +
                                "; free some, or map the file with MTAW_MAPPING=map (in C MTAW_MAP)",
                            error);
    };
    Descriptor sealed(static_cast<int>(syscall(SYS_memfd_create, name.c_str(), kCloseOnExec | kAllowSealing)));
    if (sealed.get() < 0) throw fail(errno);
    // Not through a mapping: without memory a write is an error, and not a SIGBUS.
    constexpr std::size_t kChunk = 1 << 26;
    for (off_t done = 0; done < before.st_size;) {
        const ssize_t sent =
            sendfile(sealed.get(), source, &done, std::min(kChunk, static_cast<std::size_t>(before.st_size - done)));
        if (sent == 0) throw changed();
        if (sent < 0 && errno != EINTR) throw fail(errno);
    }
    struct stat after{};
    if (fstat(source, &after) != 0) throw fail(errno);
    if (was_written(before, after)) throw changed();
    if (fcntl(sealed.get(), kAddSeals, kSeals) != 0) throw fail(errno);
    return sealed.release();
}

// So that workers that start together make one copy; without the lock each makes its own.
class CopyLock {
   public:
    explicit CopyLock(int descriptor) : descriptor_(descriptor) {
        const auto until = std::chrono::steady_clock::now() + kLongestWait;
        while (flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK &&
               std::chrono::steady_clock::now() < until) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
    }
    // Closing the descriptor would not do: a child of a fork has it too.
    ~CopyLock() { flock(descriptor_, LOCK_UN); }
    CopyLock(const CopyLock&) = delete;
    CopyLock& operator=(const CopyLock&) = delete;

   private:
    int descriptor_;
};

std::shared_ptr<const SealedCopy> known_copy(const std::string& name) {
    const std::lock_guard guard(copies().mutex);
    const auto found = copies().by_name.find(name);
    return found == copies().by_name.end() ? nullptr : found->second.lock();
}

}  // namespace

bool SealedCopy::is_supported() { return true; }

std::shared_ptr<const SealedCopy> SealedCopy::of(int descriptor, const struct stat& status, const std::string& path) {
    const std::string name = name_of(status);
    const CopyLock lock(descriptor);
    if (auto known = known_copy(name)) return known;
    const std::shared_ptr<SealedCopy> copy(new SealedCopy(name, static_cast<std::size_t>(status.st_size)));
    copy->descriptor_ = open_siblings_copy(name);
    if (copy->descriptor_ < 0) copy->descriptor_ = new_copy(descriptor, status, name, path);
    void* const memory = mmap(nullptr, copy->size_, PROT_READ, MAP_SHARED, copy->descriptor_, 0);
    if (memory == MAP_FAILED) {
        const int error = errno;
        throw bundle_error("cannot map " + path + ": " + reason_of_system(error) + "; free some memory", error);
    }
    copy->memory_ = memory;
    const std::lock_guard guard(copies().mutex);
    copies().by_name[name] = copy;
    return copy;
}

SealedCopy::~SealedCopy() {
    {
        const std::lock_guard guard(copies().mutex);
        const auto found = copies().by_name.find(name_);
        if (found != copies().by_name.end() && found->second.expired()) copies().by_name.erase(found);
    }
    if (memory_ != nullptr) munmap(memory_, size_);
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace mtaw

#else

namespace mtaw {

bool SealedCopy::is_supported() { return false; }

std::shared_ptr<const SealedCopy> SealedCopy::of(int, const struct stat&, const std::string&) { return nullptr; }

SealedCopy::~SealedCopy() = default;

}  // namespace mtaw

#endif
