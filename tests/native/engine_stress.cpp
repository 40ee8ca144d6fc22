// Many threads on one engine over a mapped bundle: every answer must be, to the bit, the one that a single thread gave
// beforehand. Meant for builds under ThreadSanitizer and AddressSanitizer. Of a bundle with a session memory, the
// memory and its ranker are shared too, by the engine and by direct queries.
//
//     engine_stress BUNDLE ISA MAX_LEN SCALE THREADS CALLS    CALLS a thread; prints "ok", or what differs and exits 1
//     engine_stress BUNDLE ISA MAX_LEN SCALE THREADS CALLS learn    one thread clicks CALLS times onto a delta
//     meanwhile
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <optional>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/engine.hpp"
#include "isa.hpp"
#include "learning_stress.hpp"
#include "mapped_bundle.hpp"
#include "memory/query.hpp"
#include "memory/ranker_net.hpp"

namespace {

using Random = std::mt19937_64;
using Ids = std::vector<std::int32_t>;

constexpr std::size_t kJobs = 400;
constexpr std::int64_t kMaxSessions = 6;
constexpr std::int64_t kUsualK = 30;
constexpr std::int64_t kShareEvery = 50;  // calls between clicks on the session that all threads share

std::int64_t up_to(Random& random, std::int64_t most) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most + 1));
}

struct Answer {
    Ids ids;
    std::vector<float> values;

    bool operator==(const Answer& other) const {
        const auto same_bits = [](float a, float b) {
            return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
        };
        return ids == other.ids &&
               std::equal(values.begin(), values.end(), other.values.begin(), other.values.end(), same_bits);
    }
};

enum class Kind { single, batch, growing, encode, lookup, composed, updated, changing };
constexpr std::uint64_t kKinds = 8;
constexpr mtaw::MemoryQuerySettings kQuery{60, 150, 200, 100};  // the ones that are served

struct Job {
    Kind kind;
    Ids clicks;
    std::vector<std::int64_t> offsets;
    std::int64_t k;
    std::vector<std::uint8_t> allowed;  // empty: all
    Ids excluded;
    bool exclude_seen;

    Job(Random& random, std::int64_t n_items, std::int64_t max_len)
        : kind(static_cast<Kind>(random() % kKinds)), offsets{0}, exclude_seen(random() % 3 == 0) {
        const std::int64_t sessions = kind == Kind::batch ? 1 + up_to(random, kMaxSessions - 1) : 1;
        for (std::int64_t b = 0; b < sessions; ++b) {
            // Mostly short ones; the window of the longest slides.
            const std::int64_t most = random() % 4 == 0 ? max_len + 4 : 8;
            for (std::int64_t m = up_to(random, most - 1); m >= 0; --m) {
                clicks.push_back(static_cast<std::int32_t>(up_to(random, n_items - 1)));
            }
            offsets.push_back(static_cast<std::int64_t>(clicks.size()));
        }
        k = 1 + up_to(random, random() % 25 == 0 ? n_items + 4 : kUsualK);
        if (random() % 3 == 0) {
            allowed.resize(static_cast<std::size_t>(n_items + 7) / 8);
            const std::uint64_t kept = std::uint64_t{1} << up_to(random, 6);  // one item in `kept`
            for (std::int64_t i = 0; i < n_items; ++i) {
                const auto bit = static_cast<std::uint8_t>(1 << i % 8);
                if (random() % kept == 0) allowed[static_cast<std::size_t>(i / 8)] |= bit;
            }
        }
        if (random() % 3 == 0) {
            for (std::int64_t n = up_to(random, 40); n > 0; --n) {
                excluded.push_back(static_cast<std::int32_t>(up_to(random, n_items - 1)));
            }
            std::sort(excluded.begin(), excluded.end());
        }
    }
};

struct Scratch {
    mtaw::EngineScratch engine;
    mtaw::EncodeScratch encode;
    mtaw::ScanScratch scan;
    mtaw::MemoryScratch memory;
};

// A part of the catalog, with codes of its own.
struct Part {
    Part(const mtaw::ScanCatalog& whole, std::int64_t begin, std::int64_t end, mtaw::Isa isa)
        : rows(whole.rows + begin * whole.d),
          n_items(end - begin),
          blocks(static_cast<std::size_t>(mtaw::block_count(n_items) * mtaw::block_bytes(whole.d))),
          summary(mtaw::quantize_catalog(rows, n_items, whole.d, blocks.data())),
          scanner({rows, blocks.data(), n_items, whole.d, summary}, isa) {}

    const float* rows;
    std::int64_t n_items;
    std::vector<std::uint8_t> blocks;
    mtaw::ScanSummary summary;
    mtaw::Scanner scanner;
};

// As an update leaves it: the same items, but those from `trained` on were added.
struct Updated {
    Updated(mtaw::EncoderWeights weights, const mtaw::ScanCatalog& catalog, std::int64_t trained, mtaw::Isa isa)
        : base(catalog, 0, trained, isa),
          side(catalog, trained, catalog.n_items, isa),
          bundle([&] {
              weights.n_items = trained;
              return mtaw::Encoder(weights, isa);
          }()),
          encoder(bundle.with_added(weights.item_embedding + trained * catalog.d, catalog.n_items - trained)) {}

    Part base, side;
    mtaw::Encoder bundle, encoder;
    std::optional<mtaw::Engine> engine{};
};

class Shop {
   public:
    Shop(const char* folder, mtaw::Isa isa, std::int64_t max_len, double scale)
        : bundle_(folder),
          ids_(bundle_.ids()),
          encoder_(bundle_.weights(max_len), isa),
          scanner_(bundle_.catalog(), isa),
          scale_(scale) {
        if (bundle_.has_memory()) {
            memory_.emplace(bundle_.memory(), kQuery, encoder_.n_items(), isa);
            ranker_.emplace(bundle_.ranker());
        }
        const mtaw::MemoryParts parts{memory_ ? &*memory_ : nullptr, ranker_ ? &*ranker_ : nullptr};
        engine_.emplace(encoder_, scanner_, scale, parts);
        const mtaw::ScanCatalog& catalog = scanner_.catalog();
        updated_.emplace(bundle_.weights(max_len), catalog, trained_of(catalog), isa);
        updated_->engine.emplace(updated_->encoder, updated_->base.scanner, scale, parts,
                                 mtaw::CatalogUpdate{&updated_->side.scanner, nullptr});
    }

    // Threads pass different `random`: how a growing session's clicks are batched must not matter.
    Answer answer(const Job& job, Scratch& scratch, Random& random) const {
        const auto m = static_cast<std::int64_t>(job.clicks.size());
        mtaw::Conditions conditions{job.allowed.empty() ? nullptr : job.allowed.data(), job.excluded.data(),
                                    static_cast<std::int64_t>(job.excluded.size()), job.exclude_seen};
        std::optional<std::int64_t> n_allowed;
        if (!job.allowed.empty()) n_allowed = static_cast<std::int64_t>(job.allowed.size());
        mtaw::check_conditions(conditions, n_allowed, engine_->n_items());
        const mtaw::PackedSessions sessions{job.clicks.data(), job.offsets.data(),
                                            static_cast<std::int64_t>(job.offsets.size()) - 1};
        mtaw::check_sessions(sessions, m);
        if (job.kind == Kind::encode) {
            Answer answer{{}, std::vector<float>(static_cast<std::size_t>(encoder_.d()))};
            encoder_.encode(job.clicks.data(), m, answer.values.data(), scratch.encode);
            return answer;
        }
        if (job.kind == Kind::lookup) return {looked_up(job.clicks), {}};
        Answer answer{Ids(static_cast<std::size_t>(sessions.count * job.k)), {}};
        answer.values.resize(answer.ids.size());
        if (job.kind == Kind::composed) {
            compose(job, conditions, answer, scratch);
        } else if (job.kind == Kind::growing || job.kind == Kind::changing) {
            // Of a changing one the catalog changes between its clicks.
            const auto engine_now = [&]() -> const mtaw::Engine& {
                return job.kind == Kind::changing && random() % 2 == 0 ? *updated_->engine : *engine_;
            };
            mtaw::SessionState state(encoder_);
            for (std::int64_t sent = 0; sent < m;) {
                const std::int64_t fresh = 1 + up_to(random, m - sent - 1);
                sent += fresh;
                mtaw::check_growing(sent, fresh);
                engine_now().rank_growing(state, job.clicks.data(), sent, fresh, job.k, conditions, answer.ids.data(),
                                          answer.values.data(), scratch.engine);
            }
            engine_now().rank_growing(state, job.clicks.data(), m, 0, job.k, conditions, answer.ids.data(),
                                      answer.values.data(), scratch.engine);
        } else {
            const Ids clicks = job.kind == Kind::single ? looked_up(job.clicks) : job.clicks;
            const mtaw::Engine& engine = job.kind == Kind::updated ? *updated_->engine : *engine_;
            engine.rank({clicks.data(), sessions.offsets, sessions.count}, job.k, conditions, answer.ids.data(),
                        answer.values.data(), scratch.engine);
        }
        return answer;
    }

    // A click onto a session that all threads append to: the query must be that of the window it was made from.
    bool append_shared(mtaw::SessionState& state, Scratch& scratch, Random& random) const {
        const auto click = static_cast<std::int32_t>(up_to(random, engine_->n_items() - 1));
        const auto d = static_cast<std::size_t>(encoder_.d());
        Answer got{{}, std::vector<float>(d)}, wanted = got;
        state.append(&click, 1, got.values.data(), scratch.encode, &got.ids);
        state.query(wanted.values.data(), scratch.encode);  // others may have clicked meanwhile: nothing to compare
        wanted.ids = got.ids;
        const auto m = static_cast<std::int64_t>(got.ids.size());
        encoder_.encode(got.ids.data(), m, wanted.values.data(), scratch.encode);
        return got.ids.back() == click && got == wanted;
    }

    mtaw::LearningShop learning(mtaw::Isa isa) const {
        return {bundle_.memory(), bundle_.memory_settings(), kQuery, *ranker_, isa};
    }

    const mtaw::Encoder& encoder() const { return encoder_; }
    std::int64_t n_items() const { return engine_->n_items(); }

   private:
    // The engine's answer to one session put together from its parts, as other encoders and indexes are; some of the
    // items are given to the memory as ones that were added.
    void compose(const Job& job, const mtaw::Conditions& conditions, Answer& answer, Scratch& scratch) const {
        const auto m = static_cast<std::int64_t>(job.clicks.size());
        const mtaw::ScanCatalog& catalog = scanner_.catalog();
        std::vector<float> query(static_cast<std::size_t>(catalog.d));
        encoder_.encode(job.clicks.data(), m, query.data(), scratch.encode);
        Ids excluded = job.excluded;
        if (conditions.exclude_seen) excluded.insert(excluded.end(), job.clicks.begin(), job.clicks.end());
        std::sort(excluded.begin(), excluded.end());
        const std::int64_t bounds[] = {0, static_cast<std::int64_t>(excluded.size())};
        const std::int64_t width = memory_ ? std::max(job.k, kQuery.dense) : job.k;
        Ids dense(static_cast<std::size_t>(width));
        std::vector<float> logits(dense.size());
        mtaw::ScanRequest search{query.data(), 1, width, scale_};
        search.allowed = conditions.allowed;
        search.excluded = excluded.data();
        search.excluded_offsets = bounds;
        scanner_.search(search, dense.data(), logits.data(), scratch.scan);
        if (!memory_) {
            answer = {dense, logits};
            return;
        }
        const std::int64_t trained = trained_of(catalog);
        const mtaw::ItemVectors vectors{catalog.rows, trained, catalog.rows + trained * catalog.d,
                                        catalog.d,    scale_,  catalog.n_items - trained};
        const mtaw::MemoryRequest request{job.clicks.data(), m,     query.data(),       dense.data(),
                                          logits.data(),     width, conditions.allowed, excluded.data(),
                                          bounds[1]};
        memory_->rank(request, &vectors, *ranker_, job.k, answer.ids.data(), answer.values.data(), scratch.memory);
    }

    static std::int64_t trained_of(const mtaw::ScanCatalog& catalog) { return catalog.n_items * 2 / 3; }

    // Out to the texts and back by the hash table.
    Ids looked_up(const Ids& internal) const {
        Ids found(internal.size());
        for (std::size_t begin = 0; begin < internal.size(); begin += mtaw::IdTable::kGroup) {
            const std::size_t count = std::min(mtaw::IdTable::kGroup, internal.size() - begin);
            std::string_view texts[mtaw::IdTable::kGroup];
            for (std::size_t i = 0; i < count; ++i) {
                ids_.prefetch(internal[begin + i]);
                texts[i] = ids_.text_of(internal[begin + i]);
            }
            ids_.find(texts, count, found.data() + begin);
        }
        if (found != internal) throw std::runtime_error("an id does not lead back to its item");
        return found;
    }

    mtaw::MappedBundle bundle_;
    mtaw::IdTable ids_;
    mtaw::Encoder encoder_;
    mtaw::Scanner scanner_;
    double scale_;
    std::optional<mtaw::SessionMemory> memory_;
    std::optional<mtaw::RankerNet> ranker_;
    std::optional<mtaw::Engine> engine_;
    std::optional<Updated> updated_;
};

struct Shared {
    const Shop& shop;
    const std::vector<Job>& jobs;
    const std::vector<Answer>& answers;
    mtaw::SessionState& visit;
    std::atomic<int> waiting;
    std::atomic<bool> wrong{false};
};

void work(Shared& shared, std::uint64_t seed, std::int64_t calls) {
    Random random(seed);
    Scratch scratch;
    shared.waiting -= 1;
    while (shared.waiting > 0) std::this_thread::yield();
    for (std::int64_t call = 0; call < calls && !shared.wrong; ++call) {
        if (call % kShareEvery == 0 && !shared.shop.append_shared(shared.visit, scratch, random)) {
            std::printf("a session shared by the threads: its query is not that of its clicks\n");
            shared.wrong = true;
        }
        const std::size_t number = random() % shared.jobs.size();
        if (!(shared.shop.answer(shared.jobs[number], scratch, random) == shared.answers[number])) {
            std::printf("job %zu (kind %d): not the answer of one thread alone\n", number,
                        static_cast<int>(shared.jobs[number].kind));
            shared.wrong = true;
        }
    }
}

int run(int argc, char** argv) {
    const std::int64_t max_len = std::atoll(argv[3]), n_threads = std::atoll(argv[5]), calls = std::atoll(argv[6]);
    const Shop shop(argv[1], mtaw::isa_named(argv[2]), max_len, std::atof(argv[4]));
    if (argc == 8) {
        if (!mtaw::learn_while_asked(shop.learning(mtaw::isa_named(argv[2])), n_threads, calls)) return 1;
        std::printf("ok\n");
        return 0;
    }
    Random random(5);
    Scratch scratch;
    std::vector<Job> jobs;
    std::vector<Answer> answers;
    for (std::size_t number = 0; number < kJobs; ++number) {
        jobs.emplace_back(random, shop.n_items(), max_len);
        Job alone = jobs.back();
        // Whose answer they must give.
        if (alone.kind == Kind::composed || alone.kind == Kind::updated) alone.kind = Kind::single;
        if (alone.kind == Kind::changing) alone.kind = Kind::growing;
        answers.push_back(shop.answer(alone, scratch, random));
    }
    mtaw::SessionState visit(shop.encoder());
    Shared shared{shop, jobs, answers, visit, static_cast<int>(n_threads)};
    std::vector<std::thread> threads;
    for (std::int64_t number = 0; number < n_threads; ++number) {
        threads.emplace_back(work, std::ref(shared), static_cast<std::uint64_t>(number) + 100, calls);
    }
    for (std::thread& thread : threads) thread.join();
    if (shared.wrong) return 1;
    std::printf("ok\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7 && argc != 8) {
        std::printf("usage: engine_stress BUNDLE ISA MAX_LEN SCALE THREADS CALLS [learn]\n");
        return 2;
    }
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::printf("%s\n", error.what());
        return 1;
    }
}
