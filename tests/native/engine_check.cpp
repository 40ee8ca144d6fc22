// The engine without Python, for builds under the sanitizers: many threads, mixed calls, a mapped catalog.
//
//     engine_check [THREADS [CALLS]]     calls a thread; prints "ok", or what differs, and exits with 0 or 1
//
// Every answer must have the bits of the one that a single thread gave before.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "engine/engine.hpp"
#include "ids/id_table.hpp"
#include "scan/layout.hpp"
#include "scan/scanner.hpp"

namespace {

using Floats = std::vector<float>;

constexpr std::int64_t kItems = 1501, kDims = 28, kPositions = 6, kMaxLen = 12, kMost = 40;
constexpr int kJobs = 96;
std::atomic<int> failures{0};
std::mt19937_64 generator(11);

std::int64_t below(std::int64_t end) { return std::uniform_int_distribution<std::int64_t>(0, end - 1)(generator); }

Floats normal(std::int64_t count) {
    Floats values(static_cast<std::size_t>(count));
    std::normal_distribution<float> draw(0, 0.3F);
    for (float& value : values) value = draw(generator);
    return values;
}

// `size` bytes of an unlinked file, mapped as a bundle's are.
class Mapped {
 public:
    Mapped(const void* data, std::size_t size) : size_(size) {
        std::FILE* const file = std::tmpfile();
        if (file == nullptr || std::fwrite(data, 1, size, file) != size || std::fflush(file) != 0) std::abort();
        memory_ = mmap(nullptr, size, PROT_READ, MAP_SHARED, fileno(file), 0);
        if (memory_ == MAP_FAILED) std::abort();
        std::fclose(file);
    }
    ~Mapped() { munmap(memory_, size_); }
    Mapped(const Mapped&) = delete;
    Mapped& operator=(const Mapped&) = delete;

    template <typename T>
    const T* as() const {
        return static_cast<const T*>(memory_);
    }

 private:
    std::size_t size_;
    void* memory_;
};

struct Job {
    std::vector<std::int32_t> clicks;
    std::int64_t k;
    bool filtered, exclude_seen;
    std::vector<std::int32_t> excluded;
    std::vector<std::int32_t> ids;
    Floats scores;

    bool operator==(const Job& other) const {
        return ids == other.ids && std::memcmp(scores.data(), other.scores.data(), scores.size() * sizeof(float)) == 0;
    }
};

struct World {
    mtaw::Engine engine;
    const mtaw::Encoder& encoder;
    std::vector<std::uint8_t> allowed;

    mtaw::Conditions conditions(const Job& job) const {
        return {job.filtered ? allowed.data() : nullptr, job.excluded.data(),
                static_cast<std::int64_t>(job.excluded.size()), job.exclude_seen};
    }

    Job answered(Job job, mtaw::EngineScratch& scratch) const {
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(job.clicks.size())};
        engine.rank({job.clicks.data(), offsets, 1}, job.k, conditions(job), job.ids.data(), job.scores.data(),
                    scratch);
        return job;
    }

    // The same session click by click, in portions of up to 5.
    Job lived(Job job, mtaw::EngineScratch& scratch, std::int64_t seed) const {
        mtaw::SessionState state(encoder);
        const auto m = static_cast<std::int64_t>(job.clicks.size());
        for (std::int64_t taken = 0; taken < m;) {
            const std::int64_t fresh = std::min<std::int64_t>(1 + (seed + taken) % 5, m - taken);
            taken += fresh;
            engine.rank_live(state, job.clicks.data(), taken, fresh, job.k, conditions(job), job.ids.data(),
                             job.scores.data(), scratch);
        }
        return job;
    }
};

Job random_job() {
    Job job{{}, 1 + below(30), below(3) == 0, below(2) == 0, {}, {}, {}};
    for (std::int64_t left = 1 + below(kMost); left > 0; --left) {
        job.clicks.push_back(static_cast<std::int32_t>(below(kItems)));
    }
    for (std::int32_t item = 0; below(2) == 0 && item < 60; item += 7) job.excluded.push_back(item);
    job.ids.resize(static_cast<std::size_t>(job.k));
    job.scores.resize(static_cast<std::size_t>(job.k));
    return job;
}

void fail(const char* what, int number) {
    ++failures;
    std::printf("job %d: %s\n", number, what);
}

}  // namespace

int main(int argc, char** argv) {
    const int n_threads = argc > 1 ? std::atoi(argv[1]) : 4, calls = argc > 2 ? std::atoi(argv[2]) : 200;

    const Floats rows = normal(kItems * kDims), positions = normal(kPositions * kDims);
    std::vector<Floats> layers;
    for (int layer = 0; layer < 5; ++layer) {
        layers.push_back(normal(kDims * kDims));
        layers.push_back(normal(kDims));
    }
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(mtaw::block_count(kItems) * mtaw::block_bytes(kDims)));
    const mtaw::ScanSummary summary = mtaw::quantise_catalog(rows.data(), kItems, kDims, codes.data());
    const Mapped catalog(rows.data(), rows.size() * sizeof(float)), blocks(codes.data(), codes.size());
    const mtaw::Encoder encoder({kItems, kDims, kPositions, kMaxLen, catalog.as<float>(), positions.data(),
                                 layers[0].data(), layers[1].data(), layers[2].data(), layers[3].data(),
                                 layers[4].data(), layers[5].data(), layers[6].data(), layers[7].data(),
                                 layers[8].data(), layers[9].data()});
    const mtaw::Scanner scanner({catalog.as<float>(), blocks.as<std::uint8_t>(), kItems, kDims, summary});
    World world{{encoder, scanner, 16.0}, encoder, std::vector<std::uint8_t>((kItems + 7) / 8, 0x5D)};

    std::string blob;
    std::vector<std::int64_t> offsets{0};
    for (std::int64_t item = 0; item < kItems; ++item) {
        blob += "sku-" + std::to_string(item * 7919);
        offsets.push_back(static_cast<std::int64_t>(blob.size()));
    }
    std::vector<std::uint64_t> slots(mtaw::slot_count(kItems));
    if (mtaw::fill_slots(blob.data(), offsets.data(), kItems, slots.data(), slots.size()) != mtaw::kUnknownId) {
        fail("a text occurs twice", -1);
    }
    const mtaw::IdTable ids = mtaw::IdTable::of_texts(blob.data(), offsets.data(), kItems, slots.data(), slots.size());

    mtaw::EngineScratch scratch;
    std::vector<Job> jobs;
    for (int number = 0; number < kJobs; ++number) {
        jobs.push_back(world.answered(random_job(), scratch));
        if (!(world.lived(jobs.back(), scratch, number) == jobs.back())) fail("click by click differs", number);
    }
    const auto work = [&](int thread) {
        mtaw::EngineScratch own;
        for (int call = 0; call < calls; ++call) {
            const int number = (call * 31 + thread * 17) % kJobs;
            const Job& job = jobs[static_cast<std::size_t>(number)];
            if (call % 4 != 3) {
                if (!(world.answered(job, own) == job)) fail("another answer in a thread", number);
            } else if (!(world.lived(job, own, call) == job)) {
                fail("another answer click by click in a thread", number);
            }
            const std::int32_t item = job.clicks.front();
            const std::string_view texts[] = {ids.text_of(item), "nobody", ids.text_of((item + 1) % kItems)};
            std::int32_t found[3];
            ids.find(texts, 3, found);
            if (found[0] != item || found[1] != mtaw::kUnknownId || found[2] != (item + 1) % kItems) {
                fail("an id was not found", number);
            }
        }
    };
    std::vector<std::thread> threads;
    for (int thread = 0; thread < n_threads; ++thread) threads.emplace_back(work, thread);
    for (std::thread& thread : threads) thread.join();
    if (failures == 0) std::puts("ok");
    return failures == 0 ? 0 : 1;
}
