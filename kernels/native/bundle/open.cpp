// The files of a bundle: opened, copied or mapped, and hashed in parallel.
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <vector>

#include "bundle/bundle.hpp"
#include "bundle/failure.hpp"
#include "bundle/sha256.hpp"

namespace mtaw {
namespace {

constexpr std::uint64_t kMaxManifest = 1 << 20;  // bytes
constexpr int kAttempts = 5;                     // if the bundle is replaced while it is read, the read starts again
// mtaw_fast/bundle/format.py
constexpr std::string_view kServed[] = {"weights", "catalog",    "items",   "popularity", "scan",
                                        "memory",  "ranker",     "times",   "trends",     "context",
                                        "types",   "item_table", "content", "learned"};

bool is_served(std::string_view part) {
    return std::find(std::begin(kServed), std::end(kServed), part) != std::end(kServed);
}

struct Part {
    std::string_view name;
    const ManifestFile* entry;
    std::string path;
    std::uint64_t size;
    std::unique_ptr<OpenFile> file;  // until its bytes are there
    std::optional<FileBytes> bytes;  // of a part that is served
    char digest[65];
    int failure;  // an errno value

    void hash() {
        if (bytes) {
            write_sha256(bytes->data(), bytes->size(), digest);
        } else {
            failure = file->hash(digest);
        }
    }
};

// Threads that hash parts as soon as their bytes are there. They allocate nothing: the caller's allocator need not
// expect other threads than its own.
class Hashing {
   public:
    Hashing(int threads, std::vector<Part*>& parts) : parts_(parts) {
        threads = std::min(threads, kMostThreads);
        for (; n_threads_ + 1 < threads; ++n_threads_) {
            if (pthread_create(&threads_[n_threads_], nullptr, &Hashing::run, this) != 0) break;  // the others do it
        }
    }
    ~Hashing() { finish(); }
    Hashing(const Hashing&) = delete;
    Hashing& operator=(const Hashing&) = delete;

    // The bytes of one part more are there.
    void add() {
        const std::lock_guard guard(mutex_);
        ++n_ready_;
        changed_.notify_one();
    }
    // Returns when all that are there are hashed.
    void finish() {
        {
            const std::lock_guard guard(mutex_);
            has_all_ = true;
            changed_.notify_all();
        }
        run(this);
        for (; n_threads_ > 0; --n_threads_) pthread_join(threads_[n_threads_ - 1], nullptr);
    }

   private:
    static void* run(void* self) {
        auto& hashing = *static_cast<Hashing*>(self);
        for (;;) {
            std::unique_lock lock(hashing.mutex_);
            hashing.changed_.wait(lock, [&] { return hashing.next_ < hashing.n_ready_ || hashing.has_all_; });
            if (hashing.next_ == hashing.n_ready_) return nullptr;
            Part& part = *hashing.parts_[hashing.next_++];
            lock.unlock();
            part.hash();
        }
    }

    static constexpr int kMostThreads = 8;  // a few large files take most of the time
    std::vector<Part*>& parts_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::size_t n_ready_ = 0, next_ = 0;
    bool has_all_ = false;
    pthread_t threads_[kMostThreads];
    int n_threads_ = 0;
};

}  // namespace

Bundle::Files Bundle::open_files(const Manifest& manifest, const std::string& folder, const FileAccess& access,
                                 bool verify) {
    std::vector<Part> parts;
    for (const auto& [name, entry] : manifest.files) {
        auto file = std::make_unique<OpenFile>(access, folder + "/" + entry.name, entry.size);
        if (is_served(name)) TensorFile::check_length(*file);
        const std::uint64_t size = file->size();
        parts.push_back({name, &entry, file->path(), size, std::move(file), std::nullopt, {}, 0});
    }
    std::vector<Part*> largest_first;
    for (Part& part : parts) largest_first.push_back(&part);
    std::sort(largest_first.begin(), largest_first.end(),
              [](const Part* a, const Part* b) { return a->size > b->size; });
    {
        Hashing hashing(verify ? access.threads : 1, largest_first);
        for (Part* const part : largest_first) {
            if (is_served(part->name)) part->bytes.emplace(access, std::move(part->file));
            if (verify) hashing.add();
        }
    }
    Files files;
    for (Part& part : parts) {
        if (part.failure != 0) refuse_to_read(part.path, part.failure);
        if (verify && part.entry->sha256 != part.digest)
            throw bundle_error(part.path + " is damaged (its SHA-256 differs)" + kRetrain);
        if (part.bytes) files.emplace(part.name, std::make_shared<const TensorFile>(std::move(*part.bytes)));
    }
    return files;
}

std::shared_ptr<const Bundle> Bundle::open(const std::string& folder, const FileAccess& access, bool verify,
                                           Keep keep) {
    const std::string path = folder + "/" + kManifest;
    std::string previous;
    for (int attempt = 0;; ++attempt) {
        const std::string identity = FileAccess::identity(path);
        std::unique_ptr<OpenFile> file;
        try {
            file = std::make_unique<OpenFile>(access, path);
        } catch (const BundleError& error) {
            if (error.errno_value() != ENOENT) throw;
            throw bundle_error(path + " does not exist; is " + folder + " a folder made by 'mtaw-fast train'?", ENOENT);
        }
        if (file->size() > kMaxManifest) {
            throw bundle_error(path + " has " + with_commas(file->size()) + " bytes, a manifest at most " +
                               with_commas(kMaxManifest) + "; do not trust this bundle");
        }
        const FileBytes bytes({access.methods, Mapping::read}, std::move(file));
        std::string text(bytes.view());
        Manifest manifest = Manifest::read(bytes, folder);
        try {
            auto files = open_files(manifest, folder, access, verify);
            return std::shared_ptr<const Bundle>(
                new Bundle(std::move(manifest), folder, std::move(text), std::move(files), verify, keep));
        } catch (const BundleError&) {
            // Once more if the manifest was replaced meanwhile.
            if (attempt == kAttempts) throw;
            if (access.is_system ? FileAccess::identity(path) == identity : text == previous) throw;
        }
        previous = std::move(text);
    }
}

}  // namespace mtaw
