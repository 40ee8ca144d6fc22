// libFuzzer's target over the native engine: any bytes become a catalog, a model, an id table and requests, which go
// through the checks that the bindings make. Nothing may crash or hang, and what is answered must be brute force's.
//
// Arrays have their exact sizes on the heap, so that AddressSanitizer sees a step past any end.
//
// With MTAW_SEEDED it is a program of its own, for processors that only an emulator offers: engine_fuzz INPUTS. With
// MTAW_EMULATED_TILES the kernels for AMX run on tiles in plain C++.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "bytes.hpp"
#include "rank/engine.hpp"
#include "ids/id_table.hpp"
#include "isa.hpp"
#include "score/score.hpp"

namespace {

constexpr std::int64_t kMaxRequests = 6, kMaxResults = 1 << 14;

struct Catalog {
    std::int64_t n_items, d;
    Floats rows;
    std::vector<std::uint8_t> blocks, half_blocks, low_blocks;  // whole codes, or the two parts of nested ones
    mtaw::ScanSummary summary;
    bool honest = true;

    explicit Catalog(Bytes& bytes)
        : n_items(1 + (bytes.chance(8) ? bytes.below(9000) : bytes.below(70))),
          d(1 + bytes.below(n_items > 1000 ? 12 : 40)) {
        rows = floats(bytes, static_cast<std::size_t>(n_items * d), true);
        for (std::int64_t copies = bytes.chance(3) ? bytes.below(n_items) : 0; copies > 0; --copies) {
            std::copy_n(rows.begin(), d, rows.end() - copies * d);  // equal items, over each other where they meet
        }
        if (bytes.chance(4)) {  // near ties, within the codes or after them
            const float jitter = bytes.chance(2) ? 1e-3F : 1e-7F;
            std::minstd_rand random(bytes.take<std::uint16_t>() + 1U);
            std::normal_distribution<float> normal;
            constexpr float kLimit = std::numeric_limits<float>::max();
            for (auto i = static_cast<std::size_t>(d); i < rows.size(); ++i) {
                const float base = rows[i % static_cast<std::size_t>(d)];
                rows[i] = std::clamp(base * (1 + jitter * normal(random)), -kLimit, kLimit);
            }
        }
        if (bytes.chance(2)) {
            const auto n_bytes = static_cast<std::size_t>(mtaw::block_count(n_items) * mtaw::half_block_bytes(d));
            half_blocks.resize(n_bytes);
            low_blocks.resize(n_bytes);
            summary = mtaw::quantize_nested(rows.data(), n_items, d, half_blocks.data(), low_blocks.data());
        } else {
            blocks.resize(static_cast<std::size_t>(mtaw::block_count(n_items) * mtaw::block_bytes(d)));
            summary = mtaw::quantize_catalog(rows.data(), n_items, d, blocks.data());
        }
        if (!bytes.chance(3)) return;
        honest = false;
        for (std::int64_t lies = bytes.below(40); lies > 0; --lies) {
            std::vector<std::uint8_t>& codes = nested() ? (bytes.chance(2) ? low_blocks : half_blocks) : blocks;
            switch (bytes.below(5)) {
                case 0: codes[bytes.take<std::uint32_t>() % codes.size()] = bytes.take<std::uint8_t>(); break;
                case 4: codes[codes.size() - 1 - bytes.take<std::uint8_t>() % 64] = bytes.take<std::uint8_t>(); break;
                case 1: rows[bytes.take<std::uint32_t>() % rows.size()] = bytes.take<float>(); break;
                case 2: summary.largest_norm = bytes.take<double>(); break;
                default: summary.exponent = bytes.chance(2) ? bytes.take<std::int64_t>() : bytes.below(512) - 256;
            }
        }
    }

    bool nested() const { return blocks.empty(); }

    mtaw::ScanCatalog view() {
        if (nested()) return {rows.data(), nullptr, n_items, d, summary, half_blocks.data(), low_blocks.data()};
        return {rows.data(), blocks.data(), n_items, d, summary};
    }
};

struct Model {
    std::int64_t positions, max_len;
    double recent, decay;
    Floats items, position, norm_weight, norm_bias, weights[4], biases[4];

    Model(Bytes& bytes, std::int64_t n_items, std::int64_t d)
        : positions(1 + bytes.below(12)),
          max_len(1 + bytes.below(20)),
          recent(bytes.chance(2) ? 0 : static_cast<double>(bytes.below(1001))),
          decay(static_cast<double>(bytes.below(100)) / 100) {
        const auto wide = static_cast<std::size_t>(d);
        const bool finite = !bytes.chance(4);
        items = floats(bytes, static_cast<std::size_t>(n_items) * wide, finite);
        position = floats(bytes, static_cast<std::size_t>(positions) * wide, finite);
        norm_weight = floats(bytes, wide, finite);
        norm_bias = floats(bytes, wide, finite);
        for (Floats& weight : weights) weight = floats(bytes, wide * wide, finite);
        for (Floats& bias : biases) bias = floats(bytes, wide, finite);
    }

    mtaw::EncoderWeights view(std::int64_t n_items, std::int64_t d) const {
        return {n_items,
                d,
                positions,
                max_len,
                items.data(),
                position.data(),
                weights[0].data(),
                biases[0].data(),
                weights[1].data(),
                biases[1].data(),
                weights[2].data(),
                biases[2].data(),
                norm_weight.data(),
                norm_bias.data(),
                weights[3].data(),
                biases[3].data(),
                0,
                nullptr,
                recent,
                decay};
    }
};

// A caller's request: mostly sensible, at times anything.
struct Request {
    std::int64_t k;
    Ids clicks, excluded;
    std::vector<std::int64_t> offsets{0};
    std::vector<std::uint8_t> allowed;
    bool filtered, exclude_seen;

    Request(Bytes& bytes, std::int64_t n_items) {
        k = bytes.chance(12) ? bytes.take<std::int64_t>() : 1 + bytes.below(bytes.chance(3) ? n_items + 3 : 12);
        const bool large = bytes.chance(4);  // a batch of sessions that are all sensible
        for (std::int64_t sessions = bytes.below(large ? 75 : 9); sessions > 0; --sessions) {
            for (std::int64_t m = bytes.below(!large && bytes.chance(4) ? 30 : 5); m >= 0; --m) {
                clicks.push_back(large ? static_cast<std::int32_t>(bytes.below(n_items)) : id(bytes, n_items));
            }
            offsets.push_back(static_cast<std::int64_t>(clicks.size()));
        }
        if (bytes.chance(10)) offsets[bytes.take<std::uint8_t>() % offsets.size()] = bytes.take<std::int64_t>();
        filtered = bytes.chance(2);
        const std::int64_t size = bytes.chance(12) ? bytes.below(600) : (n_items + 7) / 8;
        const std::uint8_t fill = bytes.chance(2) ? 0 : bytes.take<std::uint8_t>();
        if (filtered) allowed.assign(static_cast<std::size_t>(size), fill);
        for (std::int64_t set = bytes.below(9); set > 0 && !allowed.empty(); --set) {
            allowed[bytes.take<std::uint16_t>() % allowed.size()] = bytes.take<std::uint8_t>();
        }
        for (std::int64_t n = bytes.below(20); n > 0; --n) excluded.push_back(id(bytes, n_items));
        if (!bytes.chance(10)) std::sort(excluded.begin(), excluded.end());
        exclude_seen = bytes.chance(3);
    }

    static std::int32_t id(Bytes& bytes, std::int64_t n_items) {
        return bytes.chance(60) ? bytes.take<std::int32_t>() : static_cast<std::int32_t>(bytes.below(n_items));
    }

    // Throws what the bindings' checks throw.
    mtaw::Conditions conditions(std::int64_t n_items) const {
        const mtaw::Conditions given{filtered ? allowed.data() : nullptr, excluded.data(),
                                     static_cast<std::int64_t>(excluded.size()), exclude_seen};
        std::optional<std::int64_t> n_allowed;
        if (filtered) n_allowed = static_cast<std::int64_t>(allowed.size());
        mtaw::check_conditions(given, n_allowed, n_items);
        return given;
    }
    mtaw::PackedSessions sessions() const {
        return {clicks.data(), offsets.data(), static_cast<std::int64_t>(offsets.size()) - 1};
    }
};

void check_brute_force(const Catalog& catalog, const mtaw::Encoder& encoder, double scale, const Request& request,
                       const Ids& ids, const Floats& scores) {
    mtaw::EncodeScratch scratch;
    Floats query(static_cast<std::size_t>(catalog.d));
    for (std::size_t b = 0; b + 1 < request.offsets.size(); ++b) {
        const std::int32_t* const begin = request.clicks.data() + request.offsets[b];
        const std::int32_t* const end = request.clicks.data() + request.offsets[b + 1];
        encoder.encode(begin, end - begin, query.data(), scratch);
        std::vector<mtaw::Scored> all;
        for (std::int32_t i = 0; i < catalog.n_items; ++i) {
            const bool filtered =
                request.filtered && (request.allowed[static_cast<std::size_t>(i / 8)] >> i % 8 & 1) == 0;
            const bool banned = filtered || (request.exclude_seen && std::find(begin, end, i) != end) ||
                                std::binary_search(request.excluded.begin(), request.excluded.end(), i);
            if (!banned) all.push_back({0.0F, i});
        }
        mtaw::score_items(query.data(), catalog.rows.data(), catalog.d, scale, all.data(),
                          static_cast<std::int64_t>(all.size()), mtaw::Isa::portable);
        std::sort(all.begin(), all.end(), mtaw::Better{});
        all.resize(static_cast<std::size_t>(request.k), {-std::numeric_limits<float>::infinity(), -1});
        for (std::size_t rank = 0; rank < all.size(); ++rank) {
            const std::size_t at = b * all.size() + rank;
            require(ids[at] == all[rank].id, "the items are brute force's");
            require(std::bit_cast<std::uint32_t>(scores[at]) == std::bit_cast<std::uint32_t>(all[rank].score),
                    "the scores are brute force's");
        }
    }
}

struct Shop {
    const Catalog& catalog;
    const mtaw::Encoder& encoder;
    const mtaw::Engine& engine;
    double scale;
    mtaw::EngineScratch& scratch;
};

void ask(const Shop& shop, const Request& request) {
    const mtaw::Conditions conditions = request.conditions(shop.catalog.n_items);
    const mtaw::PackedSessions sessions = request.sessions();
    mtaw::check_sessions(sessions, static_cast<std::int64_t>(request.clicks.size()));
    if (request.k < 1 || request.k > kMaxResults) return;  // the bindings make arrays of k: what fits in memory
    Ids ids(static_cast<std::size_t>(sessions.count * request.k));
    Floats scores(ids.size());
    shop.engine.rank(sessions, request.k, conditions, ids.data(), scores.data(), shop.scratch);
    for (const std::int32_t id : ids) require(id >= -1 && id < shop.catalog.n_items, "an answer is in the catalog");
    if (shop.catalog.honest) check_brute_force(shop.catalog, shop.encoder, shop.scale, request, ids, scores);
}

// The clicks of the first session, in batches; `fresh` is wrong at times.
void visit(const Shop& shop, const Request& request, Bytes& bytes) {
    const mtaw::Conditions conditions = request.conditions(shop.catalog.n_items);
    mtaw::SessionState state(shop.encoder);
    const std::int64_t k = 1 + bytes.below(9);
    Ids ids(static_cast<std::size_t>(k));
    Floats scores(ids.size());
    const auto all = static_cast<std::int64_t>(request.clicks.size());
    for (std::int64_t sent = 0; sent < all;) {
        const std::int64_t portion = std::min<std::int64_t>(1 + bytes.below(5), all - sent);
        const std::int64_t fresh = bytes.chance(30) ? bytes.take<std::int64_t>() : portion;
        sent += portion;
        mtaw::check_growing(sent, fresh);
        shop.engine.rank_growing(state, request.clicks.data(), sent, fresh, k, conditions, ids.data(), scores.data(),
                                 shop.scratch);
    }
}

void look_up(Bytes& bytes) {
    const std::int64_t n_items = bytes.below(40);
    std::vector<std::int64_t> offsets{0};
    std::vector<char> blob;
    for (std::int64_t i = 0; i < n_items; ++i) {
        for (std::int64_t n = bytes.below(12); n > 0; --n) blob.push_back(static_cast<char>('a' + bytes.below(3)));
        offsets.push_back(static_cast<std::int64_t>(blob.size()));
    }
    if (bytes.chance(6)) offsets[bytes.take<std::uint16_t>() % offsets.size()] = bytes.take<std::int64_t>();
    mtaw::check_texts(offsets.data(), n_items, static_cast<std::int64_t>(blob.size()));
    std::vector<std::uint64_t> slots(mtaw::slot_count(n_items));
    const bool distinct =
        mtaw::fill_slots(blob.data(), offsets.data(), n_items, slots.data(), slots.size()) == mtaw::kUnknownId;
    const bool lying = bytes.chance(3) || !distinct;
    if (lying) slots.resize(std::size_t{1} << bytes.below(8));
    for (std::int64_t lies = lying ? bytes.below(40) : 0; lies > 0; --lies) {
        slots[bytes.take<std::uint16_t>() % slots.size()] = bytes.take<std::uint64_t>();
    }
    const mtaw::IdTable table =
        mtaw::IdTable::of_texts(blob.data(), offsets.data(), n_items, slots.data(), slots.size());
    for (std::int64_t i = 0; i < n_items; ++i) {
        const std::string_view text = table.text_of(i);
        std::int32_t found = 0;
        table.find(&text, 1, &found);
        require(found >= -1 && found < n_items, "an id is in the table");
        require(lying || found == i, "an id leads back to its item");
    }
    std::vector<std::int64_t> values(static_cast<std::size_t>(n_items)), sorted;
    for (std::int64_t& value : values) value = bytes.take<std::int64_t>();
    sorted = values;
    if (!bytes.chance(3)) std::sort(sorted.begin(), sorted.end());
    Ids order(values.size());
    for (std::int32_t& item : order) item = bytes.take<std::int32_t>();
    const mtaw::IdTable numbers = mtaw::IdTable::of_ints(values.data(), sorted.data(), order.data(), n_items);
    for (const std::int64_t value : {bytes.take<std::int64_t>(), n_items > 0 ? values[0] : 0}) {
        std::int32_t found = 0;
        numbers.find(&value, 1, &found);
        require(found >= -1 && found < n_items, "an id is in the table of numbers");
    }
}

void run(Bytes& bytes) {
    constexpr mtaw::Isa kSets[] = {mtaw::Isa::portable, mtaw::Isa::avx2, mtaw::Isa::avx512,
                                   mtaw::Isa::vnni,     mtaw::Isa::bf16, mtaw::Isa::amx};
#ifdef MTAW_EMULATED_TILES
    const mtaw::Isa isa = kSets[bytes.below(std::size(kSets))];
#else
    const mtaw::Isa isa = std::min(kSets[bytes.below(std::size(kSets))], mtaw::cpu_isa());
#endif
    if (bytes.chance(4)) return look_up(bytes);
    Catalog catalog(bytes);
    const Model model(bytes, catalog.n_items, catalog.d);
    const mtaw::Encoder encoder(model.view(catalog.n_items, catalog.d), isa);
    const mtaw::Scanner scanner(catalog.view(), isa);
    const double scale = bytes.chance(8) ? bytes.take<double>() : 1 + static_cast<double>(bytes.below(40));
    const mtaw::Engine engine(encoder, scanner, scale);
    mtaw::EngineScratch scratch;
    const Shop shop{catalog, encoder, engine, scale, scratch};
    for (std::int64_t n = 0; n < kMaxRequests && !bytes.empty(); ++n) {
        const Request request(bytes, catalog.n_items);
        try {
            if (bytes.chance(3)) {
                visit(shop, request, bytes);
            } else {
                ask(shop, request);
            }
        } catch (const std::invalid_argument&) {
        } catch (const std::out_of_range&) {}
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    try {
        run(bytes);
    } catch (const std::invalid_argument&) {}
    return 0;
}

#ifdef MTAW_SEEDED
int main(int, char** arguments) {
    for (int seed = 0; seed < std::atoi(arguments[1]); ++seed) {
        std::mt19937 random(static_cast<unsigned>(seed));
        std::vector<std::uint8_t> data(20 + random() % 4000);
        for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(random());
        LLVMFuzzerTestOneInput(data.data(), data.size());
    }
    std::puts("ok");
}
#endif
