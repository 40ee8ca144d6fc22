// The session memory's queries: candidates, features and rankings of many prefixes of packed sessions.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "bindings.hpp"
#include "buffers.hpp"
#include "memory/query.hpp"
#include "named_arrays.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"
#include "work_queue.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

constexpr std::int64_t kQueriesPerPiece = 8;  // queries that a thread takes at once

using MaybeArray = std::optional<py::array>;

std::int64_t rows_of(const py::dict& arrays, const char* name) {
    return arrays.contains(name) ? py::array(arrays[name]).size() : 0;
}

MemoryView view_of(const py::dict& tables, double recency, std::int64_t once_from) {
    if (!(recency > 0 && std::isfinite(recency))) throw py::value_error("recency must be finite and above 0");
    return {bound_tables(tables).view, recency, once_from};
}

class RankerObject {
   public:
    RankerObject(const py::dict& arrays, std::int64_t n_types) : ranker_(weights_of(arrays, n_types)) {}
    const RankerNet& ranker() const { return ranker_; }

    // The scores float32[n] of candidates by their features float32[n, F].
    py::array_t<float> scores(const py::array& features) const {
        const float* const rows = matrix<float>(features, "features", "float32");
        if (features.shape(1) != ranker_.n_features()) {
            throw py::value_error("the ranker reads " + std::to_string(ranker_.n_features()) + " features, not " +
                                  std::to_string(features.shape(1)));
        }
        py::array_t<float> scores(features.shape(0));
        ranker_.score_rows(rows, features.shape(0), memory_kernels(active_isa()), scores.mutable_data());
        return scores;
    }

   private:
    static RankerWeights weights_of(const py::dict& arrays, std::int64_t n_types) {
        const std::int64_t f = rows_of(arrays, "mean"), n1 = rows_of(arrays, "b1"), n2 = rows_of(arrays, "b2");
        return {
            .n_features = f,
            .n1 = n1,
            .n2 = n2,
            .mean = named<float>(arrays, "mean", "float32", {f}),
            .scale = named<float>(arrays, "scale", "float32", {f}),
            .linear = named<float>(arrays, "linear", "float32", {f}),
            .w1 = named<float>(arrays, "w1", "float32", {f, n1}),
            .b1 = named<float>(arrays, "b1", "float32", {n1}),
            .w2 = named<float>(arrays, "w2", "float32", {n1, n2}),
            .b2 = named<float>(arrays, "b2", "float32", {n2}),
            .w3 = named<float>(arrays, "w3", "float32", {n2}),
            .bias = *named<float>(arrays, "bias", "float32", {1}),
            .n_types = n_types,
        };
    }

    RankerNet ranker_;
};

// The arguments of a call, checked: prefixes of packed sessions, and the neural part of each.
struct Batch {
    const std::int32_t* items;
    const std::int64_t* begins;
    const std::int64_t* ends;
    std::int64_t count;
    const float* queries = nullptr;
    const std::int32_t* dense = nullptr;
    const float* logits = nullptr;
    std::int64_t n_dense = 0;
    ItemVectors vectors{};
    const std::uint8_t* allowed = nullptr;
    const std::uint8_t* always_ranked = nullptr;
    const std::int32_t* excluded = nullptr;
    const std::int64_t* excluded_offsets = nullptr;
    std::int64_t n_items = 0;
    const Trends* trends = nullptr;
    const std::int64_t* now = nullptr;
    const std::int64_t* times = nullptr;
    const std::uint16_t* context = nullptr;  // [count, columns of the trends]
    const ItemContent* content = nullptr;
    std::int64_t n_types = 0;
    const std::uint8_t* types = nullptr;

    MemoryRequest request(std::int64_t q) const {
        MemoryRequest request{items + begins[q], ends[q] - begins[q]};
        if (queries != nullptr) {
            request.query = queries + q * vectors.d;
            request.dense = dense + q * n_dense;
            request.logits = logits + q * n_dense;
            request.n_dense = n_dense;
        }
        request.allowed = allowed;
        request.always_ranked = always_ranked;
        request.n_items = n_items;
        if (excluded != nullptr) {
            request.excluded = excluded + excluded_offsets[q];
            request.n_excluded = excluded_offsets[q + 1] - excluded_offsets[q];
        }
        if (trends != nullptr) {
            request.trends = trends;
            request.now = now[q];
            request.times = times == nullptr ? nullptr : times + begins[q];
            if (context != nullptr) request.context = context + q * trends->context_shape().n_columns;
            request.content = content;
        }
        request.n_types = n_types;
        request.types = types == nullptr ? nullptr : types + begins[q];
        return request;
    }
};

struct Neural {
    MaybeArray queries, dense, logits, catalog, added;
    double scale;
};

Batch batch_of(const SessionMemory& memory, const py::array& items, const py::array& begins, const py::array& ends,
               const Neural& neural) {
    Batch batch{};
    batch.items = checked_data<std::int32_t>(items, 1, "items", "int32");
    batch.begins = checked_data<std::int64_t>(begins, 1, "begins", "int64");
    batch.ends = checked_data<std::int64_t>(ends, 1, "ends", "int64");
    batch.count = begins.size();
    bool fits = ends.size() == batch.count;
    for (std::int64_t q = 0; fits && q < batch.count; ++q) {
        fits = batch.begins[q] >= 0 && batch.begins[q] < batch.ends[q] && batch.ends[q] <= items.size();
    }
    if (!fits) throw py::value_error("begins and ends must be pairs of positions in items, with a click between them");
    batch.n_items = memory.n_catalog();
    if (!neural.queries) return batch;
    if (!neural.dense || !neural.logits || !neural.catalog) {
        throw py::value_error("queries, dense, logits and catalog go together: pass all four or none");
    }
    batch.queries = matrix<float>(*neural.queries, "queries", "float32");
    batch.dense = matrix<std::int32_t>(*neural.dense, "dense", "int32");
    batch.logits = matrix<float>(*neural.logits, "logits", "float32");
    batch.n_dense = neural.dense->shape(1);
    batch.vectors.rows = matrix<float>(*neural.catalog, "catalog", "float32");
    batch.vectors.n = neural.catalog->shape(0);
    batch.vectors.d = neural.catalog->shape(1);
    batch.vectors.scale = neural.scale;
    std::int64_t n = batch.vectors.n;
    if (neural.added) {
        batch.vectors.added = matrix<float>(*neural.added, "added", "float32");
        batch.vectors.n_added = neural.added->shape(0);
        n += batch.vectors.n_added;
    }
    const auto rows_differ = [&](const py::array& array) { return array.shape(0) != batch.count; };
    if (rows_differ(*neural.queries) || rows_differ(*neural.dense) || rows_differ(*neural.logits) ||
        neural.logits->shape(1) != batch.n_dense || neural.queries->shape(1) != batch.vectors.d ||
        (neural.added && neural.added->shape(1) != batch.vectors.d)) {
        throw py::value_error("queries [Q, d], dense and logits [Q, D], catalog and added [.., d] do not fit together");
    }
    // A delta has capacity for items that do not exist yet.
    if (memory.delta() == nullptr ? n != memory.n_catalog() : n > memory.n_catalog()) {
        throw py::value_error("there are vectors of " + std::to_string(n) + " items, not of " +
                              std::to_string(memory.n_catalog()));
    }
    batch.n_items = n;
    const std::int32_t* const end = batch.dense + batch.count * batch.n_dense;
    if (std::any_of(batch.dense, end, [n](std::int32_t id) { return id < -1 || id >= n; })) {
        throw py::index_error("a dense item is outside -1.." + std::to_string(n - 1));
    }
    return batch;
}

// What a call knows of the visits and the items beyond clicks.
struct SideArrays {
    const MaybeArray& context;
    const py::object& content;
};

// The arguments of a call that give the time, and the side features.
void add_trends(Batch& batch, const py::array& items, const py::object& trends, const MaybeArray& now,
                const MaybeArray& times, const SideArrays& side) {
    if (trends.is_none()) {
        if (side.context || !side.content.is_none())
            throw py::value_error("context and content need trends: pass trends too");
        if (now || times) throw py::value_error("now and times need trends: pass trends too");
        return;
    }
    if (!now) throw py::value_error("trends need now: one moment for each prefix");
    batch.trends = &trends_of(trends);
    batch.now = checked_data<std::int64_t>(*now, 1, "now", "int64");
    if (now->size() != batch.count) throw py::value_error("now must have one entry for each prefix");
    batch.content = item_content_of(side.content);
    if (side.context) {
        const std::int64_t n_columns = batch.trends->context_shape().n_columns;
        batch.context = checked_data<std::uint16_t>(*side.context, 2, "context", "uint16");
        if (side.context->shape(0) != batch.count || side.context->shape(1) != n_columns) {
            throw py::value_error("context must have one row for each prefix and " + std::to_string(n_columns) +
                                  " columns");
        }
    }
    if (!times) return;
    batch.times = checked_data<std::int64_t>(*times, 1, "times", "int64");
    if (times->size() != items.size()) throw py::value_error("times must have one entry for each click");
}

// The types of the clicks, as a ranker of `n_types` reads them.
void add_types(Batch& batch, const py::array& items, const MaybeArray& types, std::int64_t n_types) {
    batch.n_types = n_types;
    if (!types) return;
    batch.types = checked_data<std::uint8_t>(*types, 1, "types", "uint8");
    if (types->size() != items.size()) throw py::value_error("types must have one entry for each click");
}

class MemoryObject {
   public:
    MemoryObject(const py::dict& tables, double recency, std::int64_t n_catalog, std::int64_t own, std::int64_t others,
                 std::int64_t dense, const std::optional<std::string>& isa, const py::object& delta,
                 std::int64_t trends, std::int64_t once_from, std::int64_t ranked)
        : owners_(tables.attr("copy")()),
          delta_(delta),
          memory_(view_of(owners_, recency, once_from), {own, others, dense, trends, ranked}, n_catalog,
                  isa ? isa_named(isa->c_str()) : active_isa(), delta.is_none() ? nullptr : &memory_delta_of(delta)) {}

    const SessionMemory& memory() const { return memory_; }

    py::tuple features(const py::array& items, const py::array& begins, const py::array& ends, MaybeArray queries,
                       MaybeArray dense, MaybeArray logits, MaybeArray catalog, double scale, int threads,
                       const py::object& trends, const MaybeArray& now, const MaybeArray& times,
                       const MaybeArray& context, const py::object& content, const MaybeArray& types,
                       std::int64_t n_types) const {
        Batch batch = batch_of(memory_, items, begins, ends, {queries, dense, logits, catalog, {}, scale});
        add_trends(batch, items, trends, now, times, {context, content});
        add_types(batch, items, types, n_types);
        if (n_types < 0 || n_types > kMaxTypes)
            throw py::value_error("n_types must be in 0.." + std::to_string(kMaxTypes));
        const std::int64_t width = memory_.max_candidates();
        const std::int64_t n_features = SessionMemory::n_features(
            {.clicks = nullptr, .n_clicks = 0, .trends = batch.trends, .content = batch.content, .n_types = n_types});
        py::array_t<std::int32_t> ids({batch.count, width});
        py::array_t<float> features({batch.count, width, n_features});
        std::int32_t* const id_data = ids.mutable_data();
        float* const feature_data = features.mutable_data();
        for_each_query(batch, threads, [&](std::int64_t q, const MemoryRequest& request, MemoryScratch& scratch) {
            std::int32_t* const row = id_data + q * width;
            float* const values = feature_data + q * width * n_features;
            const std::int64_t count = memory_.features(request, &batch.vectors, row, values, scratch);
            std::fill(row + count, row + width, -1);
            std::fill(values + count * n_features, values + width * n_features, 0.0F);
        });
        return py::make_tuple(ids, features);
    }

    py::tuple rank(const RankerObject& ranker, const py::array& items, const py::array& begins, const py::array& ends,
                   std::int64_t k, MaybeArray queries, MaybeArray dense, MaybeArray logits, MaybeArray catalog,
                   MaybeArray added, double scale, const MaybeArray& allowed, const MaybeArray& excluded,
                   const MaybeArray& excluded_offsets, int threads, const py::object& trends, const MaybeArray& now,
                   const MaybeArray& times, const MaybeArray& context, const py::object& content,
                   const MaybeArray& types, const MaybeArray& always_ranked) const {
        Batch batch = batch_of(memory_, items, begins, ends, {queries, dense, logits, catalog, added, scale});
        add_trends(batch, items, trends, now, times, {context, content});
        add_types(batch, items, types, ranker.ranker().n_types());
        if (k < 1) throw py::value_error("k must be at least 1, not " + std::to_string(k));
        const auto checked_bits = [&](const MaybeArray& bits, const char* name) -> const std::uint8_t* {
            if (!bits) return nullptr;
            const auto* const data = checked_data<std::uint8_t>(*bits, 1, name, "uint8");
            if (bits->size() != (batch.n_items + 7) / 8) {
                throw py::value_error(std::string(name) + " must have one bit an item of the catalog");
            }
            return data;
        };
        batch.allowed = checked_bits(allowed, "allowed");
        batch.always_ranked = checked_bits(always_ranked, "always_ranked");
        if (excluded) {
            if (!excluded_offsets) throw py::value_error("excluded needs excluded_offsets");
            batch.excluded = checked_data<std::int32_t>(*excluded, 1, "excluded", "int32");
            batch.excluded_offsets = checked_data<std::int64_t>(*excluded_offsets, 1, "excluded_offsets", "int64");
            const std::int64_t* const offsets = batch.excluded_offsets;
            if (excluded_offsets->size() != batch.count + 1 || offsets[0] != 0 ||
                offsets[batch.count] != excluded->size() || !std::is_sorted(offsets, offsets + batch.count + 1)) {
                throw py::value_error(
                    "excluded_offsets must rise from 0 to the number of excluded ids, one step a query");
            }
        }
        py::array_t<std::int32_t> ids({batch.count, k});
        py::array_t<float> scores({batch.count, k});
        std::int32_t* const id_data = ids.mutable_data();
        float* const score_data = scores.mutable_data();
        const ItemVectors* const vectors = batch.queries == nullptr ? nullptr : &batch.vectors;
        for_each_query(batch, threads, [&](std::int64_t q, const MemoryRequest& request, MemoryScratch& scratch) {
            memory_.rank(request, vectors, ranker.ranker(), k, id_data + q * k, score_data + q * k, scratch);
        });
        return py::make_tuple(ids, scores);
    }

   private:
    // work(q, request, scratch) for every query, without the GIL.
    template <typename Work>
    static void for_each_query(const Batch& batch, int threads, const Work& work) {
        if (threads < 1) throw py::value_error("threads must be at least 1, not " + std::to_string(threads));
        const Unlocked unlocked;
        std::atomic<std::int64_t> next{0};
        const auto take_pieces = [&](MemoryScratch& scratch) {
            for (std::int64_t begin = next.fetch_add(kQueriesPerPiece); begin < batch.count;
                 begin = next.fetch_add(kQueriesPerPiece)) {
                const std::int64_t end = std::min(begin + kQueriesPerPiece, batch.count);
                for (std::int64_t q = begin; q < end; ++q) work(q, batch.request(q), scratch);
            }
        };
        if (threads == 1) return take_pieces(thread_memory_scratch());
        share_work(threads, [&](int) {
            MemoryScratch scratch;
            take_pieces(scratch);
        });
    }

    py::dict owners_;  // kept alive
    py::object delta_;
    SessionMemory memory_;
};

}  // namespace

MemoryScratch& thread_memory_scratch() {
    thread_local MemoryScratch scratch;
    return scratch;
}

const SessionMemory& session_memory_of(py::handle object) { return py::cast<const MemoryObject&>(object).memory(); }

const RankerNet& ranker_of(py::handle object) { return py::cast<const RankerObject&>(object).ranker(); }

void bind_memory_query(py::module_& module) {
    module.def(
        "memory_feature_names",
        [](bool trends) {
            py::list names;
            for (std::int64_t k = 0; k < kFeatures; ++k) names.append(py::str(kFeatureNames[k]));
            for (std::int64_t k = 0; trends && k < kTrendFeatures; ++k) names.append(py::str(kTrendFeatureNames[k]));
            return py::tuple(names);
        },
        py::arg("trends") = false);
    py::class_<RankerObject>(module, "MemoryRanker")
        .def(py::init<const py::dict&, std::int64_t>(), py::arg("arrays"), py::arg("n_types") = 0)
        .def("scores", &RankerObject::scores, py::arg("features"));
    py::class_<MemoryObject>(module, "SessionMemory", "See mtaw_fast.kernels.native.memory_query.")
        .def(py::init<const py::dict&, double, std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                      const std::optional<std::string>&, const py::object&, std::int64_t, std::int64_t, std::int64_t>(),
             py::arg("tables"), py::arg("recency"), py::arg("n_catalog"), py::arg("own"), py::arg("others"),
             py::arg("dense"), py::arg("isa") = py::none(), py::arg("delta") = py::none(), py::arg("trends") = 0,
             py::arg("once_from") = kNoSession, py::arg("ranked") = 0)
        .def_property_readonly("max_candidates",
                               [](const MemoryObject& self) { return self.memory().max_candidates(); })
        .def("features", &MemoryObject::features, py::arg("items"), py::arg("begins"), py::arg("ends"),
             py::arg("queries") = py::none(), py::arg("dense") = py::none(), py::arg("logits") = py::none(),
             py::arg("catalog") = py::none(), py::arg("scale") = 0.0, py::arg("threads") = 1,
             py::arg("trends") = py::none(), py::arg("now") = py::none(), py::arg("times") = py::none(),
             py::arg("context") = py::none(), py::arg("content") = py::none(), py::arg("types") = py::none(),
             py::arg("n_types") = 0)
        .def("rank", &MemoryObject::rank, py::arg("ranker"), py::arg("items"), py::arg("begins"), py::arg("ends"),
             py::arg("k"), py::arg("queries") = py::none(), py::arg("dense") = py::none(),
             py::arg("logits") = py::none(), py::arg("catalog") = py::none(), py::arg("added") = py::none(),
             py::arg("scale") = 0.0, py::arg("allowed") = py::none(), py::arg("excluded") = py::none(),
             py::arg("excluded_offsets") = py::none(), py::arg("threads") = 1, py::arg("trends") = py::none(),
             py::arg("now") = py::none(), py::arg("times") = py::none(), py::arg("context") = py::none(),
             py::arg("content") = py::none(), py::arg("types") = py::none(), py::arg("always_ranked") = py::none());
}

}  // namespace mtaw
