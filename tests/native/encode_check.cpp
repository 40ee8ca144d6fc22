// The native encoder without Python: for CPUs that only an emulator offers, and for builds under a sanitizer.
//
//     encode_check ISA     prints "ok", or what differs, and exits with 0 or 1
//
// Every width is compared with the formulas in float64; appends from several threads must have the bits of encode.
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
using Doubles = std::vector<double>;

constexpr std::size_t kItems = 37, kPositions = 9, kMaxLen = 50;
// The edges of tiles, of the chunks of 48 rows, and of the window.
constexpr std::size_t kLengths[] = {1, 2, 5, 7, 16, 17, 48, 49, 50, 52};
constexpr std::size_t kThreads = 3, kShared = kMaxLen / kThreads + 1;  // appended to one session by each thread
constexpr std::size_t kWidths[] = {16, 31, 100, 130};
constexpr double kTolerance = 2e-6;
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

Doubles linear(const Layer& layer, const Doubles& x, bool relu) {
    Doubles out(x.size());
    for (std::size_t o = 0; o < x.size(); ++o) {
        double sum = layer.bias[o];
        for (std::size_t i = 0; i < x.size(); ++i) sum += layer.weight[o * x.size() + i] * x[i];
        out[o] = relu && sum < 0 ? 0 : sum;
    }
    return out;
}

// softmax(query keys^T / sqrt(d)) keys, over the first n keys.
Doubles attend(const Doubles& query, const std::vector<Doubles>& keys, std::size_t n) {
    Doubles scores(n), out(query.size());
    double top = -1e300, total = 0;
    for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t i = 0; i < query.size(); ++i) scores[j] += query[i] * keys[j][i];
        scores[j] /= std::sqrt(static_cast<double>(query.size()));
        top = std::fmax(top, scores[j]);
    }
    for (double& score : scores) total += score = std::exp(score - top);
    for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t i = 0; i < query.size(); ++i) out[i] += scores[j] / total * keys[j][i];
    }
    return out;
}

Doubles formulas(const Model& model, const std::vector<std::int32_t>& session) {
    const std::size_t d = model.d, dropped = session.size() > kMaxLen ? session.size() - kMaxLen : 0;
    std::vector<Doubles> x, interests;
    for (std::size_t t = 0; t + dropped < session.size(); ++t) {
        Doubles row(d);
        const std::size_t position = t < kPositions ? t : kPositions - 1;
        for (std::size_t i = 0; i < d; ++i) {
            const auto item = static_cast<std::size_t>(session[t + dropped]);
            row[i] = static_cast<double>(model.items[item * d + i]) + model.positions[position * d + i];
        }
        x.push_back(row);
        Doubles v = attend(linear(model.itl_query, x.back(), true), x, x.size());
        const Doubles ffn = linear(model.ffn_out, linear(model.ffn_in, v, true), false);
        double mean = 0, variance = 0;
        for (std::size_t i = 0; i < d; ++i) mean += (v[i] += ffn[i]) / static_cast<double>(d);
        for (const double value : v) variance += (value - mean) * (value - mean) / static_cast<double>(d);
        for (std::size_t i = 0; i < d; ++i) {
            v[i] = (v[i] - mean) / std::sqrt(variance + 1e-5) * model.norm_weight[i] + model.norm_bias[i];
        }
        interests.push_back(v);
    }
    Doubles o = attend(linear(model.iel_query, interests.back(), true), interests, interests.size());
    const std::size_t late = std::min<std::size_t>(interests.size(), mtaw::kRecentClicks);
    const double total = (1 - std::pow(kDecay, static_cast<double>(late))) / (1 - kDecay);
    for (std::size_t k = 0; k < late; ++k) {
        const float* item = &model.items[static_cast<std::size_t>(session[session.size() - 1 - k]) * d];
        double length = 0;
        for (std::size_t i = 0; i < d; ++i) length += static_cast<double>(item[i]) * item[i];
        const double share =
            kRecent * std::sqrt(static_cast<double>(d) / length) * std::pow(kDecay, static_cast<double>(k)) / total;
        for (std::size_t i = 0; i < d; ++i) o[i] += share * item[i];
    }
    double square = 0;
    for (const double value : o) square += value * value;
    for (double& value : o) value /= std::sqrt(square);
    return o;
}

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
    const mtaw::Encoder encoder(model.weights(), isa);
    mtaw::EncodeScratch scratch;
    std::mt19937 random(11);
    std::vector<std::int32_t> session(kMaxLen + 2);
    for (std::int32_t& click : session) click = static_cast<std::int32_t>(random() % kItems);
    for (const std::size_t m : kLengths) {
        Floats query(d);
        encoder.encode(session.data(), static_cast<std::int64_t>(m), query.data(), scratch);
        const Doubles truth = formulas(model, {session.begin(), session.begin() + static_cast<std::ptrdiff_t>(m)});
        for (std::size_t i = 0; i < d; ++i) {
            if (!(std::fabs(query[i] - truth[i]) <= kTolerance)) {
                std::printf("d %zu, %zu clicks, coordinate %zu: %.9g, not %.9g\n", d, m, i, query[i], truth[i]);
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
