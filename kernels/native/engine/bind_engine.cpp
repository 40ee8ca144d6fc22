// The one native call: a Python list of external ids in, a list of external ids and their scores out.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings.hpp"
#include "buffers.hpp"
#include "engine/engine.hpp"
#include "ids/python_ids.hpp"
#include "python_objects.hpp"
#include "rules/arrange.hpp"
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

// Only ever used without the GIL, so that nothing that Python runs in between can come back to it.
EngineScratch& thread_scratch() {
    thread_local EngineScratch scratch;
    return scratch;
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
                 const py::object& trends, const py::object& content)
        : owners_(py::make_tuple(ids, encoder, scanner, memory, ranker, side, present, trends, content)),
          ids_(bound_ids_of(ids)),
          engine_(
              encoder_of(encoder), scanner_of(scanner), scale,
              {memory.is_none() ? nullptr : &session_memory_of(memory), ranker.is_none() ? nullptr : &ranker_of(ranker),
               trends.is_none() ? nullptr : &trends_of(trends), item_content_of(content)},
              {side.is_none() ? nullptr : &scanner_of(side), bits_of(present)}) {
        if (ids_.size() != engine_.n_items()) {
            throw py::value_error("there are " + std::to_string(ids_.size()) + " ids for " +
                                  std::to_string(engine_.n_items()) + " items");
        }
        if (present && present->size() != (engine_.n_items() + 7) / 8) {
            throw py::value_error("present has " + std::to_string(present->size()) + " bytes, not one bit for " +
                                  std::to_string(engine_.n_items()) + " items");
        }
    }

    py::tuple recommend(const py::object& session, std::int64_t k, const MaybeArray& excluded,
                        const MaybeArray& allowed, bool exclude_seen, bool repeats, std::int64_t now,
                        const MaybeArray& context, const MaybeArray& types) const {
        const Clock::time_point start = Clock::now();
        const Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const Clicks clicks = find_clicks(ids_, session, types);
        if (clicks.known.empty()) return py::make_tuple(py::none(), py::none(), clicks.unknown, py::none(), py::none());
        const double lookup = microseconds(Clock::now() - start);
        Answer answer(k);
        {
            const Unlocked unlocked;
            std::int64_t offsets[2];
            answer.stages = engine_.rank(pack_session(clicks, offsets), k, conditions, answer.ids.data(),
                                         answer.score_data, thread_scratch());
        }
        return answer_tuple(answer, clicks.known, clicks.unknown, lookup, repeats);
    }

    py::tuple recommend_growing(const py::object& state, const py::array& clicks, std::int64_t n_new, std::int64_t k,
                                const MaybeArray& excluded, const MaybeArray& allowed, bool exclude_seen, bool repeats,
                                std::int64_t now, const MaybeArray& context, const MaybeArray& types) const {
        const Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        SessionState& session = session_state_of(state);
        const Clicks session_clicks = known_clicks(clicks, types);
        check_growing(clicks.size(), n_new);
        Answer answer(k);
        {
            const Unlocked unlocked;
            answer.stages = engine_.rank_growing(session, session_clicks.known.data(),
                                                 static_cast<std::int64_t>(session_clicks.known.size()), n_new, k,
                                                 conditions, answer.ids.data(), answer.score_data, thread_scratch(),
                                                 session_clicks.types.empty() ? nullptr : session_clicks.types.data());
        }
        return answer_tuple(answer, session_clicks.known, py::none(), 0, repeats);
    }

    // The first k items after the rules of `arrangement`; at first `depth` items are ranked, then more as it needs
    // them. session: a list or tuple of external ids, or an array of internal ones.
    py::tuple recommend_ruled(const py::object& session, std::int64_t k, std::int64_t depth, std::int64_t n_shown,
                              const MaybeArray& excluded, const MaybeArray& allowed, bool exclude_seen, bool repeats,
                              const py::object& arrangement, const PinPairs& pin_pairs, std::int64_t now,
                              const MaybeArray& context, const MaybeArray& types) const {
        const Clock::time_point start = Clock::now();
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        const Arrangement& rules = arrangement_of(arrangement);
        if (rules.n_items() != engine_.n_items()) throw py::value_error("the rules are of another catalog");
        conditions.always_ranked = rules.raised();
        const std::vector<Pin> pins = pins_of(rules, pin_pairs);
        Clicks clicks;
        if (py::isinstance<py::array>(session)) {
            clicks = known_clicks(py::reinterpret_borrow<py::array>(session), types);
        } else {
            clicks = find_clicks(ids_, session, types);
        }
        const std::vector<std::int32_t>& known = clicks.known;
        if (known.empty()) {
            return py::make_tuple(py::none(), py::none(), clicks.unknown, py::none(), py::none(), py::none(),
                                  py::none());
        }
        std::int64_t offsets[2];
        const PackedSessions whole_session = pack_session(clicks, offsets);
        check_sessions(whole_session, offsets[1]);
        const double lookup = microseconds(Clock::now() - start);
        Arranged result;
        Stages stages;
        {
            const Unlocked unlocked;
            const auto rank = [&](std::int64_t n_ranked, std::int32_t* ids, float* scores) {
                const Stages call_stages =
                    engine_.rank(whole_session, n_ranked, conditions, ids, scores, thread_scratch());
                stages.encode_ns += call_stages.encode_ns;
                stages.retrieve_ns += call_stages.retrieve_ns;
                stages.memory_ns += call_stages.memory_ns;
            };
            rank_ruled(rules, pins, k, depth, n_shown, rank, result);
        }
        const auto array_of = [](const auto& values) {
            using T = typename std::decay_t<decltype(values)>::value_type;
            return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
        };
        const auto count = static_cast<py::ssize_t>(result.ids.size());
        py::object repeated = py::none();
        if (repeats) repeated = repeated_of(result.ids.data(), count, known);
        return py::make_tuple(external_list(ids_, result.ids.data(), count), array_of(result.scores), clicks.unknown,
                              array_of(result.boosts), array_of(result.pinned).attr("view")("bool"), repeated,
                              times_of(stages, lookup));
    }

    py::tuple rank(const py::array& items, const py::array& offsets, std::int64_t k, const MaybeArray& excluded,
                   const MaybeArray& allowed, bool exclude_seen, std::int64_t now, const MaybeArray& context,
                   const MaybeArray& times, const MaybeArray& contexts, const MaybeArray& types,
                   const MaybeArray& always_ranked) const {
        Conditions conditions = checked_conditions(k, excluded, allowed, exclude_seen, {now, context});
        if (always_ranked) {
            conditions.always_ranked = checked_data<std::uint8_t>(*always_ranked, 1, "always_ranked", "uint8");
            if (always_ranked->size() != (engine_.n_items() + 7) / 8) {
                throw py::value_error("always_ranked has " + std::to_string(always_ranked->size()) +
                                      " bytes, not one bit for " + std::to_string(engine_.n_items()) + " items");
            }
        }
        const std::int32_t* clicks = checked_data<std::int32_t>(items, 1, "items", "int32");
        const std::int64_t* bounds = checked_data<std::int64_t>(offsets, 1, "offsets", "int64");
        const std::int64_t count = offsets.size() - 1;
        PackedSessions sessions{clicks, bounds, count};
        check_sessions(sessions, items.size());
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
        py::array_t<std::int32_t> ids({count, k});
        py::array_t<float> scores({count, k});
        std::int32_t* id_data = ids.mutable_data();
        float* score_data = scores.mutable_data();
        Stages stages;
        {
            const Unlocked unlocked;
            stages = engine_.rank(sessions, k, conditions, id_data, score_data, thread_scratch());
        }
        return py::make_tuple(ids, scores, times_of(stages, 0));
    }

   private:
    struct Answer {
        explicit Answer(std::int64_t k)
            : ids(static_cast<std::size_t>(k)), scores(k), score_data(scores.mutable_data()) {}

        std::vector<std::int32_t> ids;
        py::array_t<float> scores;
        float* score_data;
        Stages stages;
    };

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

    py::tuple answer_tuple(const Answer& answer, const std::vector<std::int32_t>& clicks, const py::object& unknown,
                           double lookup, bool repeats) const {
        const auto end = std::find(answer.ids.begin(), answer.ids.end(), -1);
        const py::ssize_t count = end - answer.ids.begin();
        py::object scores = answer.scores;
        if (count < answer.scores.size()) scores = py::array_t<float>(count, answer.score_data);
        py::object repeated = py::none();
        if (repeats) repeated = repeated_of(answer.ids.data(), count, clicks);
        return py::make_tuple(external_list(ids_, answer.ids.data(), count), scores, unknown, repeated,
                              times_of(answer.stages, lookup));
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

void bind_engine(py::module_& module) {
    py::class_<EngineObject>(module, "Engine", "See mtaw_fast.kernels.native.engine.")
        .def(py::init<const py::object&, const py::object&, const py::object&, double, const py::object&,
                      const py::object&, const py::object&, const MaybeArray&, const py::object&, const py::object&>(),
             py::arg("ids"), py::arg("encoder"), py::arg("scanner"), py::arg("scale"), py::arg("memory") = py::none(),
             py::arg("ranker") = py::none(), py::arg("side") = py::none(), py::arg("present") = py::none(),
             py::arg("trends") = py::none(), py::arg("content") = py::none())
        .def("recommend", &EngineObject::recommend, py::arg("session"), py::arg("k"), py::arg("excluded") = py::none(),
             py::arg("allowed") = py::none(), py::arg("exclude_seen") = false, py::arg("repeats") = false,
             py::arg("now") = 0, py::arg("context") = py::none(), py::arg("types") = py::none())
        .def("recommend_growing", &EngineObject::recommend_growing, py::arg("state"), py::arg("clicks"),
             py::arg("fresh"), py::arg("k"), py::arg("excluded") = py::none(), py::arg("allowed") = py::none(),
             py::arg("exclude_seen") = false, py::arg("repeats") = false, py::arg("now") = 0,
             py::arg("context") = py::none(), py::arg("types") = py::none())
        .def("recommend_ruled", &EngineObject::recommend_ruled, py::arg("session"), py::arg("k"), py::arg("depth"),
             py::arg("n_shown"), py::arg("excluded"), py::arg("allowed"), py::arg("exclude_seen"), py::arg("repeats"),
             py::arg("arrangement"), py::arg("pins"), py::arg("now") = 0, py::arg("context") = py::none(),
             py::arg("types") = py::none())
        .def("rank", &EngineObject::rank, py::arg("items"), py::arg("offsets"), py::arg("k"),
             py::arg("excluded") = py::none(), py::arg("allowed") = py::none(), py::arg("exclude_seen") = false,
             py::arg("now") = 0, py::arg("context") = py::none(), py::arg("times") = py::none(),
             py::arg("contexts") = py::none(), py::arg("types") = py::none(), py::arg("always_ranked") = py::none());
}

}  // namespace mtaw
