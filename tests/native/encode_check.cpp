// The native encoder without Python: for CPUs that only an emulator offers, and for builds under a sanitizer.
//
//     encode_check ISA     prints "ok", or what differs, and exits with 0 or 1
//
// Every width is compared with the portable kernels, which Python compares with the formulas; appends from several
// threads must have the bits of encode.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <random>
#include <thread>
#include <vector>

#include "encode/encoder.hpp"
#include "encode/session.hpp"
#include "isa.hpp"

namespace {

using Floats = std::vector<float>;

constexpr std::size_t kItems = 37, kPositions = 9, kMaxLen = 50;
// The edges of tiles, of the chunks of 48 rows, and of the window.
constexpr std::size_t kLengths[] = {1, 2, 5, 7, 16, 17, 48, 49, 50, 52};
constexpr std::size_t kThreads = 3, kShared = kMaxLen / kThreads + 1;  // appended to one session by each thread
constexpr std::size_t kWidths[] = {16, 31, 100, 130};
constexpr float kTolerance = 2e-6F;
constexpr double kRecent = 1.5, kDecay = 0.8;

struct Layer {
    Floats weight, bias;
};

struct Model {
    std::size_t d;
    Floats items, positions, norm_weight, norm_bias;
    Layer itl_query, ffn_in, ffn_out, iel_query;

    explicit Model(std::size_t width) : d(width) {
        const float size = 1.0F / std::sqrt(static_cast<float>(d));
        items = draw(kItems * d, 3 * size, 0);
        positions = draw(kPositions * d, size, 0);
        norm_weight = draw(d, size, 1);
        norm_bias = draw(d, size, 0);
        for (Layer* layer : {&itl_query, &ffn_in, &ffn_out, &iel_query}) {
            *layer = {draw(d * d, size, 0), draw(d, size, 0)};
        }
    }

    mtaw::EncoderWeights weights() const {
        return {static_cast<std::int64_t>(kItems),
                static_cast<std::int64_t>(d),
                static_cast<std::int64_t>(kPositions),
                static_cast<std::int64_t>(kMaxLen),
                items.data(),
                positions.data(),
                itl_query.weight.data(),
                itl_query.bias.data(),
                ffn_in.weight.data(),
                ffn_in.bias.data(),
                ffn_out.weight.data(),
                ffn_out.bias.data(),
                norm_weight.data(),
                norm_bias.data(),
                iel_query.weight.data(),
                iel_query.bias.data(),
                0,
                nullptr,
                kRecent,
                kDecay};
    }

   private:
    Floats draw(std::size_t n, float size, float center) {
        std::normal_distribution<float> normal(center, size);
        Floats values(n);
        for (float& value : values) value = normal(random);
        return values;
    }

    std::mt19937 random{7};
};

bool same_bits(const Floats& one, const Floats& other) {
    return std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) == 0;
}

// Appends click by click; returns the first of kLengths whose query differs from encode's, or 0.
std::size_t append_all(const mtaw::Encoder& encoder, const std::vector<std::int32_t>& session) {
    mtaw::EncodeScratch scratch;
    mtaw::SessionState state(encoder);
    const auto d = static_cast<std::size_t>(encoder.d());
    Floats appended(d), whole(d);
    for (std::size_t m = 1; m <= session.size(); ++m) {
        state.append(&session[m - 1], 1, appended.data(), scratch);
        if (std::find(std::begin(kLengths), std::end(kLengths), m) == std::end(kLengths)) continue;
        encoder.encode(session.data(), static_cast<std::int64_t>(m), whole.data(), scratch);
        if (!same_bits(appended, whole)) return m;
    }
    return 0;
}

bool check(std::size_t d, mtaw::Isa isa) {
    const Model model(d);
    const mtaw::Encoder encoder(model.weights(), isa), portable(model.weights(), mtaw::Isa::portable);
    mtaw::EncodeScratch scratch;
    std::mt19937 random(11);
    std::vector<std::int32_t> session(kMaxLen + 2);
    for (std::int32_t& click : session) click = static_cast<std::int32_t>(random() % kItems);
    for (const std::size_t m : kLengths) {
        Floats query(d), expected(d);
        encoder.encode(session.data(), static_cast<std::int64_t>(m), query.data(), scratch);
        portable.encode(session.data(), static_cast<std::int64_t>(m), expected.data(), scratch);
        for (std::size_t i = 0; i < d; ++i) {
            if (!(std::fabs(query[i] - expected[i]) <= kTolerance)) {
                std::printf("d %zu, %zu clicks, coordinate %zu: %.9g, not %.9g\n", d, m, i, query[i], expected[i]);
                return false;
            }
        }
    }
    // Each thread its own session, and all of them one.
    mtaw::SessionState shared(encoder);
    std::vector<std::size_t> wrong(kThreads);
    std::vector<std::thread> threads;
    for (std::size_t& result : wrong) {
        threads.emplace_back([&] {
            mtaw::EncodeScratch own;
            Floats query(d);
            for (std::size_t t = 0; t < kShared; ++t) shared.append(&session[t], 1, query.data(), own);
            shared.query(query.data(), own);
            result = append_all(encoder, session);
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::size_t m : wrong) {
        if (m > 0) {
            std::printf("d %zu: appending click %zu differs from encoding the session\n", d, m);
            return false;
        }
    }
    if (shared.clicks().size() != kMaxLen) {
        std::printf("d %zu: the shared session has %zu clicks\n", d, shared.clicks().size());
        return false;
    }
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::printf("usage: encode_check ISA\n");
        return 2;
    }
    const mtaw::Isa isa = mtaw::isa_named(argv[1]);
    for (const std::size_t d : kWidths) {
        if (!check(d, isa)) return 1;
    }
    std::printf("ok\n");
    return 0;
}
