// The one native call: a Python list of external ids in, a list of external ids and their scores out.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "rank/batch.hpp"
#include "rank/engine.hpp"
#include "rank/item_lists.hpp"
#include "rank/reasons.hpp"
#include "rank/ruled_ranking.hpp"
#include "ids/python_ids.hpp"
#include "memory/co_clicked.hpp"
#include "python_objects.hpp"
#include "unlocked.hpp"

namespace py = pybind11;

namespace mtaw {
namespace {

using Clock = std::chrono::steady_clock;
using MaybeArray = std::optional<py::array>;

// What a call says of its request beyond the clicks.
struct Visit {
    std::int64_t now;
    const MaybeArray& context;
};

// A thread's working memory, for one call. Python code that runs in between (another encoder or index) may call again,
// on this thread too: that call takes another one.
class ThreadScratch {
   public:
    ThreadScratch() {
        unused().reserve(4);  // so that the destructor allocates nothing
        if (unused().empty()) {
            scratch_ = std::make_unique<EngineScratch>();
        } else {
            scratch_ = std::move(unused().back());
            unused().pop_back();
        }
    }
    ~ThreadScratch() { unused().push_back(std::move(scratch_)); }
    ThreadScratch(const ThreadScratch&) = delete;
    ThreadScratch& operator=(const ThreadScratch&) = delete;
    EngineScratch& operator*() const { return *scratch_; }

   private:
    static std::vector<std::unique_ptr<EngineScratch>>& unused() {
        thread_local std::vector<std::unique_ptr<EngineScratch>> scratches;
        return scratches;
    }

    std::unique_ptr<EngineScratch> scratch_;
};

template <typename T>
py::array_t<T> array_of(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// The stages that Python does. The calls hold the GIL only while it runs.
class PythonStages {
   public:
    // calls: None, or (encode or None, search or None); see mtaw_fast.kernels.native.rank.
    PythonStages(const py::object& calls, std::int64_t d) : calls_(calls) {
        if (calls.is_none()) return;
        const auto [encode, search] = py::cast<std::pair<py::object, py::object>>(calls);
        if (!encode.is_none()) {
            stages_.encode = [call = encode.ptr(), d](const PackedSessions& sessions, float* queries) {
                encode_by(call, d, sessions, queries);
            };
        }
        if (!search.is_none()) {
            stages_.search = [call = search.ptr(), d](const ScanRequest& request, std::int32_t* ids, float* scores) {
                search_by(call, d, request, ids, scores);
            };
        }
    }

    const OtherStages* stages() const { return calls_.is_none() ? nullptr : &stages_; }

   private:
    static void encode_by(PyObject* call, std::int64_t d, const PackedSessions& sessions, float* queries) {
        const py::gil_scoped_acquire locked;
        const std::int64_t n_clicks = sessions.offsets[sessions.count];
        const py::object result = py::handle(call)(py::array_t<std::int32_t>(n_clicks, sessions.clicks),
                                                   py::array_t<std::int64_t>(sessions.count + 1, sessions.offsets));
        copy(result, "queries", "float32", {sessions.count, d}, queries);
    }

    static void search_by(PyObject* call, std::int64_t d, const ScanRequest& request, std::int32_t* ids,
                          float* scores) {
        const py::gil_scoped_acquire locked;
        py::object excluded = py::none(), offsets = py::none();
        if (request.excluded != nullptr) {
            excluded = py::array_t<std::int32_t>(request.excluded_offsets[request.n_queries], request.excluded);
            offsets = py::array_t<std::int64_t>(request.n_queries + 1, request.excluded_offsets);
        }
        const auto found = py::cast<std::pair<py::array, py::array>>(py::handle(call)(
            py::array_t<float>({request.n_queries, d}, request.queries), request.k, excluded, offsets));
        copy(found.first, "ids", "int32", {request.n_queries, request.k}, ids);
        copy(found.second, "scores", "float32", {request.n_queries, request.k}, scores);
    }

    template <typename T>
    static void copy(const py::array& array, const char* name, const char* type,
                     const std::array<std::int64_t, 2>& shape, T* to) {
        const T* const data = matrix<T>(array, name, type);
        if (array.shape(0) != shape[0] || array.shape(1) != shape[1]) {
            throw py::value_error(std::string(name) + " must be of the shape [" + std::to_string(shape[0]) + ", " +
                                  std::to_string(shape[1]) + "]");
        }
        std::copy_n(data, array.size(), to);
    }

    py::object calls_;  // keeps both functions
    OtherStages stages_;
};

// rules: None, or (applied rules, n_shown, approximate).
RuledCall ruled_call_of(const py::object& rules, std::int64_t n_items) {
    if (rules.is_none()) return {};
    const auto parts = py::cast<py::tuple>(rules);
    const AppliedRules& applied = applied_rules_of(parts[0]);
    if (applied.arrangement().n_items() != n_items) throw py::value_error("the rules are of another catalog");
    return {&applied, py::cast<std::int64_t>(parts[1]), py::cast<std::int64_t>(parts[2])};
}

// What rules did to the items of an answer.
py::tuple effects_of(const Arranged& answer) {
    return py::make_tuple(array_of(answer.boosts), array_of(answer.pinned).attr("view")("bool"), answer.ran_out);
}

py::tuple ruled_tuple(const Arranged& answer) {
    return py::make_tuple(array_of(answer.ids), array_of(answer.scores), effects_of(answer));
}

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

// The known clicks of a session with their types, if any were given, and the others as they came.
struct Clicks {
    std::vector<std::int32_t> known;
    std::vector<std::uint8_t> types;
    py::list unknown;
};

// types: uint8, of all clicks.
Clicks find_clicks(const BoundIds& ids, const py::object& session, const MaybeArray& types) {
    PyObject* const sequence = session.ptr();
    if (!PyList_Check(sequence) && !PyTuple_Check(sequence)) {
        throw py::type_error("a session must be a list or a tuple");
    }
    Clicks clicks{find_objects(ids, sequence), {}, py::list()};
    for (std::size_t i = 0; i < clicks.known.size(); ++i) {
        // The size is read again: an unusual id that runs Python code may have cut the list.
        const bool exists = static_cast<Py_ssize_t>(i) < PySequence_Fast_GET_SIZE(sequence);
        if (clicks.known[i] == kUnknownId && exists) {
            clicks.unknown.append(
                py::reinterpret_borrow<py::object>(PySequence_Fast_GET_ITEM(sequence, static_cast<Py_ssize_t>(i))));
        }
    }
    if (types) {
        const auto* const type_codes = checked_data<std::uint8_t>(*types, 1, "types", "uint8");
        if (types->size() != static_cast<py::ssize_t>(clicks.known.size())) {
            throw py::value_error("types must have one entry for each click");
        }
        for (std::size_t i = 0; i < clicks.known.size(); ++i) {
            if (clicks.known[i] != kUnknownId) clicks.types.push_back(type_codes[i]);
        }
    }
    std::erase(clicks.known, kUnknownId);
    return clicks;
}

// A single session as the engine takes it; `offsets` gets its bounds.
PackedSessions pack_session(const Clicks& clicks, std::int64_t (&offsets)[2]) {
    offsets[0] = 0;
    offsets[1] = static_cast<std::int64_t>(clicks.known.size());
    PackedSessions session{clicks.known.data(), offsets, 1};
    if (!clicks.types.empty()) session.types = clicks.types.data();
    return session;
}

// Internal ids, with types uint8 of the same length or none.
Clicks known_clicks(const py::array& array, const MaybeArray& types) {
    Clicks clicks;
    const std::int32_t* data = checked_data<std::int32_t>(array, 1, "clicks", "int32");
    clicks.known.assign(data, data + array.size());
    if (types) {
        const auto* const type_codes = checked_data<std::uint8_t>(*types, 1, "types", "uint8");
        if (types->size() != array.size()) throw py::value_error("types must have one entry for each click");
        clicks.types.assign(type_codes, type_codes + types->size());
    }
    return clicks;
}

class EngineObject {
   public:
    EngineObject(const py::object& ids, const py::object& encoder, const py::object& scanner, double scale,
                 const py::object& memory, const py::object& ranker, const py::object& side, const MaybeArray& present,
                 const py::object& trends, const py::object& content, const MaybeArray& rows,
                 const MaybeArray& added_rows)
        : owners_(
              py::make_tuple(ids, encoder, scanner, memory, ranker, side, present, trends, content, rows, added_rows)),
          ids_(bound_ids_of(ids)),
          engine_(
              encoder.is_none() ? nullptr : &encoder_of(encoder),
              scanner.is_none()
                  ? Segments(vectors_of(rows, added_rows), bits_of(present))
                  : Segments(scanner_of(scanner), {side.is_none() ? nullptr : &scanner_of(side), bits_of(present)}),
              scale,
              {memory.is_none() ? nullptr : &session_memory_of(memory), ranker.is_none() ? nullptr : &ranker_of(ranker),
               trends.is_none() ? nullptr : &trends_of(trends), item_content_of(content)}) {
        if (ids_.size() != engine_.n_items()) {
            throw py::value_error("there are " + std::to_string(ids_.size()) + " ids for " +
                                  std::to_string(engine_.n_items()) + " items");
        }
        if (present && present->size() != (engine_.n_items() + 7) / 8) {
            throw py::value_error("present has " + std::to_string(present->size()) + " bytes, not one bit for " +
                                  std::to_string(engine_.n_items()) + " items");
        }
    }

    // session: a list or tuple of external ids, or an array of internal ones. state: the encoder's, to which the last
    // `n_new` clicks are new; None, or with rules: all are encoded.
    py::tuple recommend(const py::object& session, std::int64_t k, const MaybeArray& excluded,
                        const MaybeArray& allowed, bool exclude_seen, bool repeats, std::int64_t now,
                        const MaybeArray& context, const MaybeArray& types, const py::object& other,
                        const py::object& rules, const py::object& state, std::int64_t n_new) const {
        const Clock::time_point start = Clock::now();
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const PythonStages stages(other, engine_.d());
        conditions.other = stages.stages();
        const RuledCall call = ruled_call_of(rules, engine_.n_items());
        const bool is_internal = py::isinstance<py::array>(session);
        const Clicks clicks = is_internal ? known_clicks(py::reinterpret_borrow<py::array>(session), types)
                                          : find_clicks(ids_, session, types);
        const auto count = static_cast<std::int64_t>(clicks.known.size());
        if (!state.is_none()) check_growing(count, n_new);
        if (clicks.known.empty()) {
            return py::make_tuple(py::none(), py::none(), clicks.unknown, py::none(), py::none(), py::none());
        }
        SessionState* const session_state = state.is_none() ? nullptr : &session_state_of(state);
        std::int64_t offsets[2];
        const PackedSessions packed = pack_session(clicks, offsets);
        const double lookup = microseconds(Clock::now() - start);
        if (call.rules != nullptr) return ruled(clicks, packed, k, conditions, call, repeats, lookup);
        Answer answer(k);
        {
            const Unlocked unlocked;
            const ThreadScratch scratch;
            answer.stages = session_state == nullptr
                                ? engine_.rank(packed, k, conditions, answer.ids.data(), answer.score_data, *scratch)
                                : engine_.rank_growing(*session_state, packed.clicks, count, n_new, k, conditions,
                                                       answer.ids.data(), answer.score_data, *scratch, packed.types);
        }
        return answer_tuple(answer, clicks, lookup, repeats);
    }

    // As `recommend`, for internal ids: (ids, scores, effects or None), and what the ranking went through.
    py::tuple trace(const py::array& session, std::int64_t k, const MaybeArray& excluded, const MaybeArray& allowed,
                    bool exclude_seen, std::int64_t now, const MaybeArray& context, const MaybeArray& types,
                    const py::object& other, const py::object& rules) const {
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const PythonStages stages(other, engine_.d());
        conditions.other = stages.stages();
        const RuledCall call = ruled_call_of(rules, engine_.n_items());
        const Clicks clicks = known_clicks(session, types);
        if (clicks.known.empty()) throw py::value_error("a session to trace has no clicks");
        std::int64_t offsets[2];
        const PackedSessions packed = pack_session(clicks, offsets);
        RankingTrace trace;
        conditions.trace = &trace;
        Arranged result;
        {
            const Unlocked unlocked;
            if (call.rules != nullptr) {
                Stages times;
                result = std::move(rank_sessions(call, nullptr, packed, k, conditions, times).front());
            } else {
                const ThreadScratch scratch;
                result.ids.resize(static_cast<std::size_t>(k));
                result.scores.resize(result.ids.size());
                engine_.rank(packed, k, conditions, result.ids.data(), result.scores.data(), *scratch);
                result.ids = trace.ids;
                result.scores = trace.scores;
            }
        }
        const py::object effects = call.rules == nullptr ? py::object(py::none()) : py::object(effects_of(result));
        return py::make_tuple(array_of(result.ids), array_of(result.scores), effects, traced(trace));
    }

    py::tuple rank(const py::array& items, const py::array& offsets, std::int64_t k, const MaybeArray& excluded,
                   const MaybeArray& allowed, bool exclude_seen, std::int64_t now, const MaybeArray& context,
                   const MaybeArray& times, const MaybeArray& contexts, const MaybeArray& types,
                   const MaybeArray& always_ranked, const py::object& other, const py::object& popular) const {
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const PythonStages other_stages(other, engine_.d());
        conditions.other = other_stages.stages();
        if (always_ranked) {
            conditions.always_ranked = checked_data<std::uint8_t>(*always_ranked, 1, "always_ranked", "uint8");
            if (always_ranked->size() != (engine_.n_items() + 7) / 8) {
                throw py::value_error("always_ranked has " + std::to_string(always_ranked->size()) +
                                      " bytes, not one bit for " + std::to_string(engine_.n_items()) + " items");
            }
        }
        const std::optional<ItemClicks> item_clicks = item_clicks_of(popular);
        const PackedSessions sessions =
            checked_sessions(items, offsets, times, contexts, types, item_clicks.has_value());
        const std::int64_t count = sessions.count;
        py::array_t<std::int32_t> ids({count, k});
        py::array_t<float> scores({count, k});
        std::int32_t* id_data = ids.mutable_data();
        float* score_data = scores.mutable_data();
        Stages stages;
        {
            const Unlocked unlocked;
            const ThreadScratch scratch;
            stages = rank_batch(engine_, item_clicks ? &*item_clicks : nullptr, sessions, k, conditions, id_data,
                                score_data, *scratch);
        }
        return py::make_tuple(ids, scores, times_of(stages, 0));
    }

    // The first k items of each session after the same rules.
    py::list rank_ruled_sessions(const py::array& items, const py::array& offsets, std::int64_t k,
                                 const py::object& rules, const MaybeArray& excluded, const MaybeArray& allowed,
                                 bool exclude_seen, std::int64_t now, const MaybeArray& context,
                                 const MaybeArray& times, const MaybeArray& contexts, const MaybeArray& types,
                                 const py::object& other, const py::object& popular) const {
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const PythonStages other_stages(other, engine_.d());
        conditions.other = other_stages.stages();
        const std::optional<ItemClicks> item_clicks = item_clicks_of(popular);
        const PackedSessions sessions =
            checked_sessions(items, offsets, times, contexts, types, item_clicks.has_value());
        const RuledCall call = ruled_call_of(rules, engine_.n_items());
        if (call.rules == nullptr) throw py::value_error("rules must not be None");
        std::vector<Arranged> answers;
        {
            const Unlocked unlocked;
            Stages stages;
            answers = rank_sessions(call, item_clicks ? &*item_clicks : nullptr, sessions, k, conditions, stages);
        }
        py::list result;
        for (const Arranged& answer : answers) result.append(ruled_tuple(answer));
        return result;
    }

    // The most clicked items, or with trends the rising ones.
    py::tuple popular(std::int64_t k, const py::object& clicks, const MaybeArray& excluded, const MaybeArray& allowed,
                      std::int64_t now, const py::object& rules) const {
        const Conditions conditions = checked_conditions(k, excluded, allowed, false, {now, std::nullopt});
        const std::optional<ItemClicks> item_clicks = item_clicks_of(clicks);
        if (!item_clicks) throw py::value_error("the clicks of the items must not be None");
        return listed(k, conditions, rules, {},
                      [&](std::int64_t depth, const Conditions& within, std::int32_t* ids, float* scores) {
                          rank_popular(engine_, *item_clicks, depth, within, ids, scores);
                      });
    }

    // The items most similar to one.
    py::tuple similar(std::int32_t item, std::int64_t k, bool by_sessions, const MaybeArray& excluded,
                      const MaybeArray& allowed, const py::object& other, const py::object& rules) const {
        Conditions conditions = checked_conditions(k, excluded, allowed, false, {0, std::nullopt});
        const PythonStages stages(other, engine_.d());
        conditions.other = stages.stages();
        check_item(item);
        return listed(k, conditions, rules, {item},
                      [&](std::int64_t depth, const Conditions& within, std::int32_t* ids, float* scores) {
                          if (by_sessions) {
                              rank_by_sessions(engine_, item, depth, within, ids, scores);
                          } else {
                              const ThreadScratch scratch;
                              rank_by_vector(engine_, item, depth, within, ids, scores, *scratch);
                          }
                      });
    }

    // For each of the clicks, how many past sessions have it together with an item; none without a memory.
    py::array_t<double> sessions_together(std::int32_t item, const py::array& clicks) const {
        check_item(item);
        std::vector<double> counts;
        if (const SessionMemory* const memory = engine_.memory_parts().memory) {
            const std::vector<std::int32_t> others = checked_items(clicks, "clicks");
            const Unlocked unlocked;
            const CoClicked co_clicked(memory->tables(), memory->delta());
            for (const std::int32_t other : others) counts.push_back(co_clicked.sessions(other, item));
        }
        return array_of(counts);
    }

    // A (kind, external ids, what rules did or None) for each of `items`. effects: None, or that of the ranking.
    py::list reasons(const py::array& clicks, const py::array& items, const py::object& effects) const {
        static constexpr const char* kKinds[] = {"session", "together", "encoder"};
        static constexpr const char* kRules[] = {nullptr, "boosted", "buried", "pinned"};
        const std::vector<std::int32_t> own = checked_items(clicks, "clicks");
        Arranged answer;
        answer.ids = checked_items(items, "items");
        if (!effects.is_none()) {
            const auto parts = py::cast<py::tuple>(effects);
            answer.boosts = py::cast<std::vector<double>>(parts[0]);
            answer.pinned = py::cast<std::vector<std::uint8_t>>(parts[1].attr("view")("uint8"));
            if (answer.boosts.size() != answer.ids.size() || answer.pinned.size() != answer.ids.size()) {
                throw py::value_error("effects must have one entry for each item");
            }
        }
        std::vector<Reason> reasons;
        {
            const Unlocked unlocked;
            reasons = reasons_of(engine_.memory_parts().memory, own, answer);
        }
        py::list result;
        for (const Reason& reason : reasons) {
            const auto count = static_cast<py::ssize_t>(reason.items.size());
            result.append(py::make_tuple(kKinds[static_cast<std::size_t>(reason.kind)],
                                         py::tuple(external_list(ids_, reason.items.data(), count)),
                                         kRules[static_cast<std::size_t>(reason.rule)]));
        }
        return result;
    }

   private:
    // None, or (order int32[N + M], clicks int64[N + M]).
    std::optional<ItemClicks> item_clicks_of(const py::object& popular) const {
        if (popular.is_none()) return std::nullopt;
        const auto [order, clicks] = py::cast<std::pair<py::array, py::array>>(popular);
        if (order.size() != engine_.n_items() || clicks.size() != engine_.n_items()) {
            throw py::value_error("the order and the clicks must have one entry for each item");
        }
        return ItemClicks{checked_data<std::int32_t>(order, 1, "order", "int32"),
                          checked_data<std::int64_t>(clicks, 1, "clicks", "int64")};
    }

    PackedSessions checked_sessions(const py::array& items, const py::array& offsets, const MaybeArray& times,
                                    const MaybeArray& contexts, const MaybeArray& types, bool with_empty) const {
        PackedSessions sessions{checked_data<std::int32_t>(items, 1, "items", "int32"),
                                checked_data<std::int64_t>(offsets, 1, "offsets", "int64"), offsets.size() - 1};
        check_sessions(sessions, items.size(), with_empty);
        if (times) {
            sessions.times = checked_data<std::int64_t>(*times, 1, "times", "int64");
            if (times->size() != items.size()) throw py::value_error("times must have one entry for each click");
        }
        if (contexts && engine_.n_context() > 0) {
            sessions.context = checked_data<std::uint16_t>(*contexts, 2, "contexts", "uint16");
            if (contexts->shape(0) != items.size() || contexts->shape(1) != engine_.n_context()) {
                throw py::value_error("contexts must have one row for each click and " +
                                      std::to_string(engine_.n_context()) + " columns");
            }
        }
        if (types) {
            sessions.types = checked_data<std::uint8_t>(*types, 1, "types", "uint8");
            if (types->size() != items.size()) throw py::value_error("types must have one entry for each click");
        }
        return sessions;
    }

    void check_item(std::int32_t item) const {
        if (item < 0 || item >= engine_.n_items()) {
            throw py::index_error("item " + std::to_string(item) + " is outside the catalog");
        }
    }

    std::vector<std::int32_t> checked_items(const py::array& array, const char* name) const {
        const std::int32_t* const data = checked_data<std::int32_t>(array, 1, name, "int32");
        std::vector<std::int32_t> items(data, data + array.size());
        for (const std::int32_t item : items) check_item(item);
        return items;
    }

    // The k ids and scores that rank(depth, conditions, ids, scores) writes without the GIL, padded, and None; under
    // rules the items after them, and what they did.
    template <typename Rank>
    py::tuple listed(std::int64_t k, const Conditions& conditions, const py::object& rules,
                     const std::vector<std::int32_t>& clicks, const Rank& rank) const {
        if (const RuledCall call = ruled_call_of(rules, engine_.n_items()); call.rules != nullptr) {
            Arranged answer;
            {
                const Unlocked unlocked;
                const std::int64_t offsets[] = {0, static_cast<std::int64_t>(clicks.size())};
                answer = std::move(
                    rank_ruled(call, {clicks.data(), offsets, 1}, k, conditions,
                               [&](const std::vector<std::int64_t>&, std::int64_t depth, const Conditions& within,
                                   std::int32_t* ids, float* scores) { rank(depth, within, ids, scores); })
                        .front());
            }
            return ruled_tuple(answer);
        }
        py::array_t<std::int32_t> ids(k);
        py::array_t<float> scores(k);
        std::int32_t* const id_data = ids.mutable_data();
        float* const score_data = scores.mutable_data();
        {
            const Unlocked unlocked;
            rank(k, conditions, id_data, score_data);
        }
        return py::make_tuple(ids, scores, py::none());
    }

    struct Answer {
        explicit Answer(std::int64_t k)
            : ids(static_cast<std::size_t>(k)), scores(k), score_data(scores.mutable_data()) {}

        std::vector<std::int32_t> ids;
        py::array_t<float> scores;
        float* score_data;
        Stages stages;
    };

    static ItemVectors vectors_of(const MaybeArray& rows, const MaybeArray& added_rows) {
        if (!rows) throw py::value_error("without a scanner, the engine needs the items' rows");
        ItemVectors vectors{matrix<float>(*rows, "rows", "float32"), rows->shape(0), nullptr, rows->shape(1), 1.0, 0};
        if (added_rows) {
            vectors.added = matrix<float>(*added_rows, "added_rows", "float32");
            vectors.n_added = added_rows->shape(0);
            if (added_rows->shape(1) != vectors.d) throw py::value_error("the added items have other dimensions");
        }
        return vectors;
    }

    // As `recommend`, the first k items after the rules.
    py::tuple ruled(const Clicks& clicks, const PackedSessions& session, std::int64_t k, const Conditions& conditions,
                    const RuledCall& call, bool repeats, double lookup) const {
        Arranged result;
        Stages stages;
        {
            const Unlocked unlocked;
            result = std::move(rank_sessions(call, nullptr, session, k, conditions, stages).front());
        }
        const auto count = static_cast<py::ssize_t>(result.ids.size());
        py::object repeated = py::none();
        if (repeats) repeated = repeated_of(result.ids.data(), count, clicks.known);
        return py::make_tuple(external_list(ids_, result.ids.data(), count), array_of(result.scores), clicks.unknown,
                              repeated, times_of(stages, lookup), effects_of(result));
    }

    std::vector<Arranged> rank_sessions(const RuledCall& call, const ItemClicks* item_clicks,
                                        const PackedSessions& sessions, std::int64_t k, const Conditions& conditions,
                                        Stages& stages) const {
        const ThreadScratch scratch;
        return rank_ruled(call, sessions, k, conditions,
                          [&](const std::vector<std::int64_t>& rows, std::int64_t depth, const Conditions& within,
                              std::int32_t* ids, float* scores) {
                              const SelectedSessions selected(sessions, rows, engine_.n_context());
                              stages += rank_batch(engine_, item_clicks, selected.sessions(), depth, within, ids,
                                                   scores, *scratch);
                          });
    }

    static const std::uint8_t* bits_of(const MaybeArray& present) {
        return present ? checked_data<std::uint8_t>(*present, 1, "present", "uint8") : nullptr;
    }

    Conditions checked_conditions(std::int64_t k, const MaybeArray& excluded, const MaybeArray& allowed,
                                  bool exclude_seen, const Visit& visit) const {
        if (k < 1) throw py::value_error("k must be at least 1, not " + std::to_string(k));
        Conditions conditions;
        conditions.exclude_seen = exclude_seen;
        conditions.now = visit.now;
        if (visit.context && engine_.n_context() > 0) {
            conditions.context = checked_data<std::uint16_t>(*visit.context, 1, "context", "uint16");
            if (visit.context->size() != engine_.n_context()) {
                throw py::value_error("context must have one code for each of " + std::to_string(engine_.n_context()) +
                                      " columns");
            }
        }
        if (excluded) {
            conditions.excluded = checked_data<std::int32_t>(*excluded, 1, "excluded", "int32");
            conditions.n_excluded = excluded->size();
        }
        std::optional<std::int64_t> n_allowed;
        if (allowed) {
            conditions.allowed = checked_data<std::uint8_t>(*allowed, 1, "allowed", "uint8");
            n_allowed = allowed->size();
        }
        check_conditions(conditions, n_allowed, engine_.n_items());
        return conditions;
    }

    // Microseconds: (lookup, encode, retrieve, memory or None if there is none).
    py::tuple times_of(const Stages& stages, double lookup) const {
        const auto microseconds_of = [](std::int64_t ns) { return static_cast<double>(ns) / 1e3; };
        py::object memory = py::none();
        if (engine_.has_memory()) memory = py::float_(microseconds_of(stages.memory_ns));
        return py::make_tuple(lookup, microseconds_of(stages.encode_ns), microseconds_of(stages.retrieve_ns), memory);
    }

    py::tuple answer_tuple(const Answer& answer, const Clicks& clicks, double lookup, bool repeats) const {
        const auto end = std::find(answer.ids.begin(), answer.ids.end(), -1);
        const py::ssize_t count = end - answer.ids.begin();
        py::object scores = answer.scores;
        if (count < answer.scores.size()) scores = py::array_t<float>(count, answer.score_data);
        py::object repeated = py::none();
        if (repeats) repeated = repeated_of(answer.ids.data(), count, clicks.known);
        return py::make_tuple(external_list(ids_, answer.ids.data(), count), scores, clicks.unknown, repeated,
                              times_of(answer.stages, lookup), py::none());
    }

    static py::dict traced(const RankingTrace& trace) {
        const QueryTrace& memory = trace.memory;
        py::dict fields;
        fields["n_own"] = memory.n_own;
        fields["items"] = array_of(memory.items);
        fields["reached"] = array_of(memory.reached);
        fields["together"] = array_of(memory.together);
        fields["second"] = array_of(memory.second);
        fields["trending"] = array_of(memory.trending);
        fields["dense_rank"] = array_of(memory.dense_rank);
        fields["quick"] = array_of(memory.quick);
        fields["is_allowed"] = array_of(memory.is_allowed).attr("view")("bool");
        fields["is_candidate"] = array_of(memory.is_candidate).attr("view")("bool");
        fields["ranked"] = array_of(memory.ranked);
        fields["scores"] = array_of(memory.scores);
        fields["features"] = array_of(memory.features);
        fields["list"] = py::make_tuple(array_of(trace.ids), array_of(trace.scores));
        fields["dense"] = py::make_tuple(array_of(trace.dense), array_of(trace.logits));
        return fields;
    }

    static py::array_t<bool> repeated_of(const std::int32_t* ids, py::ssize_t count,
                                         const std::vector<std::int32_t>& clicks) {
        std::vector<std::int32_t> seen(clicks);
        std::sort(seen.begin(), seen.end());
        py::array_t<bool> flags(count);
        std::transform(ids, ids + count, flags.mutable_data(),
                       [&](std::int32_t id) { return std::binary_search(seen.begin(), seen.end(), id); });
        return flags;
    }

    py::tuple owners_;  // kept alive
    const BoundIds& ids_;
    Engine engine_;
};

}  // namespace

void bind_rank(py::module_& module) {
    py::class_<EngineObject>(module, "Engine", "See mtaw_fast.kernels.native.rank.")
        .def(py::init<const py::object&, const py::object&, const py::object&, double, const py::object&,
                      const py::object&, const py::object&, const MaybeArray&, const py::object&, const py::object&,
                      const MaybeArray&, const MaybeArray&>(),
             py::arg("ids"), py::arg("encoder"), py::arg("scanner"), py::arg("scale"), py::arg("memory") = py::none(),
             py::arg("ranker") = py::none(), py::arg("side") = py::none(), py::arg("present") = py::none(),
             py::arg("trends") = py::none(), py::arg("content") = py::none(), py::arg("rows") = py::none(),
             py::arg("added_rows") = py::none())
        .def("recommend", &EngineObject::recommend, py::arg("session"), py::arg("k"), py::arg("excluded") = py::none(),
             py::arg("allowed") = py::none(), py::arg("exclude_seen") = false, py::arg("repeats") = false,
             py::arg("now") = 0, py::arg("context") = py::none(), py::arg("types") = py::none(),
             py::arg("other") = py::none(), py::arg("rules") = py::none(), py::arg("state") = py::none(),
             py::arg("n_new") = 0)
        .def("rank", &EngineObject::rank, py::arg("items"), py::arg("offsets"), py::arg("k"),
             py::arg("excluded") = py::none(), py::arg("allowed") = py::none(), py::arg("exclude_seen") = false,
             py::arg("now") = 0, py::arg("context") = py::none(), py::arg("times") = py::none(),
             py::arg("contexts") = py::none(), py::arg("types") = py::none(), py::arg("always_ranked") = py::none(),
             py::arg("other") = py::none(), py::arg("popular") = py::none())
        .def("trace", &EngineObject::trace, py::arg("session"), py::arg("k"), py::arg("excluded") = py::none(),
             py::arg("allowed") = py::none(), py::arg("exclude_seen") = false, py::arg("now") = 0,
             py::arg("context") = py::none(), py::arg("types") = py::none(), py::arg("other") = py::none(),
             py::arg("rules") = py::none())
        .def("popular", &EngineObject::popular, py::arg("k"), py::arg("popular"), py::arg("excluded") = py::none(),
             py::arg("allowed") = py::none(), py::arg("now") = 0, py::arg("rules") = py::none())
        .def("similar", &EngineObject::similar, py::arg("item"), py::arg("k"), py::arg("by_sessions") = false,
             py::arg("excluded") = py::none(), py::arg("allowed") = py::none(), py::arg("other") = py::none(),
             py::arg("rules") = py::none())
        .def("reasons", &EngineObject::reasons, py::arg("clicks"), py::arg("items"), py::arg("effects") = py::none())
        .def("sessions_together", &EngineObject::sessions_together, py::arg("item"), py::arg("clicks"))
        .def("rank_ruled", &EngineObject::rank_ruled_sessions, py::arg("items"), py::arg("offsets"), py::arg("k"),
             py::arg("rules"), py::arg("excluded") = py::none(), py::arg("allowed") = py::none(),
             py::arg("exclude_seen") = false, py::arg("now") = 0, py::arg("context") = py::none(),
             py::arg("times") = py::none(), py::arg("contexts") = py::none(), py::arg("types") = py::none(),
             py::arg("other") = py::none(), py::arg("popular") = py::none());
}

}  // namespace mtaw
