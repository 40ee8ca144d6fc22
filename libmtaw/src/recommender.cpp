#include "recommender.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "bundle/bits.hpp"
#include "context.hpp"
#include "failure.hpp"
#include "limits.hpp"
#include "rank/batch.hpp"
#include "rank/item_lists.hpp"
#include "rank/reasons.hpp"
#include "rank/ruled_ranking.hpp"
#include "text/moments.hpp"

namespace mtaw {
namespace {

constexpr std::uint8_t kUnknownType = 255;

// Without its padding.
void trim(Arranged& ranking) {
    const auto count =
        static_cast<std::size_t>(std::find(ranking.ids.begin(), ranking.ids.end(), -1) - ranking.ids.begin());
    ranking.ids.resize(count);
    ranking.scores.resize(count);
}

}  // namespace

Conditions Request::conditions() const {
    Conditions found;
    found.allowed = allowed ? allowed->data() : nullptr;
    found.excluded = excluded.data();
    found.n_excluded = static_cast<std::int64_t>(excluded.size());
    found.exclude_seen = exclude_seen;
    found.now = at;
    found.context = context.empty() ? nullptr : context.data();
    return found;
}

Recommender::Borrowed::Borrowed(const Recommender& from) : from_(from) {
    {
        const std::lock_guard lock(from.mutex_);
        if (!from.scratches_.empty()) {
            scratch_ = std::move(from.scratches_.back());
            from.scratches_.pop_back();
        }
    }
    if (scratch_ == nullptr) scratch_ = std::make_unique<EngineScratch>();
}

Recommender::Borrowed::~Borrowed() {
    const std::lock_guard lock(from_.mutex_);
    try {
        from_.scratches_.push_back(std::move(scratch_));
    } catch (const std::bad_alloc&) {  // the next call makes another one
        scratch_.reset();
    }
}

Recommender::Recommender(std::shared_ptr<const Bundle> bundle)
    : bundle_(std::move(bundle)),
      placements_(bundle_),
      engine_(bundle_->encoder(), bundle_->scanner(), bundle_->manifest().settings.scale,
              MemoryParts{bundle_->memory(), bundle_->ranker(), bundle_->trends(), bundle_->content()},
              CatalogUpdate{nullptr, bundle_->present()}) {}

std::vector<std::uint8_t> Recommender::filter_bits(IdList exclude, IdList allow) const {
    const auto n = static_cast<std::size_t>(bundle_->size());
    std::vector<std::uint8_t> bits((n + 7) / 8, allow.ids == nullptr ? 0xFF : 0);
    if (allow.ids == nullptr && n % 8 != 0) bits.back() = static_cast<std::uint8_t>((1U << (n % 8)) - 1);
    if (allow.ids != nullptr) {
        for (const std::int32_t item : known(bundle_->ids(), allow)) set_bit(bits.data(), item);
    }
    for (const std::int32_t item : known(bundle_->ids(), exclude)) clear_bit(bits.data(), item);
    return bits;
}

Request Recommender::request_of(const mtaw_options* caller_options) const {
    mtaw_options options;
    mtaw_options_init(&options);
    if (caller_options != nullptr) {
        constexpr std::size_t kFirst =
            offsetof(mtaw_options, n_context) + sizeof caller_options->n_context;  // in the first release
        if (caller_options->struct_size < kFirst) throw usage("options: set them up with mtaw_options_init");
        std::memcpy(&options, caller_options, std::min(caller_options->struct_size, sizeof options));
    }
    const bool timed = bundle_->trends() != nullptr;
    if (static_cast<std::ptrdiff_t>(options.k) < 1) throw usage("k must be at least 1");
    Request request;
    request.k = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(std::min(options.k, static_cast<std::size_t>(bundle_->n_eligible()))));
    if (options.at != MTAW_NOW) {
        const std::string at = std::to_string(options.at), wrong = other_unit(options.at);
        if (!wrong.empty()) throw usage("at " + at + wrong);
        if (options.at < 0 || options.at >= kLatestMoment) throw usage("at must be Unix milliseconds, not " + at);
    }
    const auto moment = [&] { return options.at == MTAW_NOW ? now() : options.at; };
    if (timed) request.at = moment();
    request.exclude_seen = options.exclude_seen != 0;
    request.reasons = options.reasons != 0;
    if (options.types != nullptr) {
        const std::vector<std::string>& names = bundle_->types();
        request.n_types = options.n_types;
        for (std::size_t i = 0; i < options.n_types && !names.empty(); ++i) {
            const char* const type = options.types[i];
            const auto found = type == nullptr ? names.end() : std::find(names.begin(), names.end(), type);
            request.types.push_back(found == names.end() ? kUnknownType
                                                         : static_cast<std::uint8_t>(found - names.begin()));
        }
    } else if (options.n_types > 0) {
        throw usage("types: the list is NULL, but not empty");
    }
    request.context = context_codes(bundle_->context(), options.context, options.n_context);
    const IdList exclude = id_list("exclude", options.exclude, options.n_exclude);
    if (options.allow != nullptr) {
        request.allowed = filter_bits(exclude, {options.allow, options.n_allow});
    } else {
        id_list("allow", options.allow, options.n_allow);
        request.excluded = known(bundle_->ids(), exclude);
    }
    if (options.filter != nullptr) {
        const auto& filter = *reinterpret_cast<const Filter*>(options.filter);
        if (filter.version != bundle_->manifest().version)
            throw usage("the filter is of another bundle; make it with mtaw_filter_open of this recommender");
        if (request.allowed) {
            for (std::size_t i = 0; i < filter.bits.size(); ++i) (*request.allowed)[i] &= filter.bits[i];
        } else {
            request.allowed = filter.bits;
        }
    }
    if (options.rules != nullptr) {
        request.rules = reinterpret_cast<const Rules*>(options.rules);
        if (&request.rules->bundle() != bundle_.get())
            throw usage("the rules are of another recommender; make them with mtaw_rules_open of this one");
    }
    if (options.placement != nullptr) {
        if (options.rules != nullptr) throw usage("rules and placement: a call has one of them; leave the other out");
        const Placed placed = placements_.placed(options.placement, options.session_id, moment());
        request.rules = placed.rules;
        request.rule_set = placed.name;
    }
    return request;
}

Clicks Recommender::clicks_of(IdList session) const {
    Clicks clicks{lookup(bundle_->ids(), session), {}, {}};
    for (std::size_t position = 0; position < session.count; ++position) {
        if (clicks.known[position] == kUnknownId) clicks.unknown.push_back(position);
    }
    std::erase(clicks.known, kUnknownId);
    return clicks;
}

void Recommender::check_types(std::size_t count, const Request& request) {
    if (!request.n_types || *request.n_types == count) return;
    throw usage("types: there are " + std::to_string(*request.n_types) + " types for " + std::to_string(count) +
                " clicks; give one for each, NULL where it is not known");
}

void Recommender::add_types(Clicks& clicks, std::size_t count, const Request& request, std::size_t first) {
    if (request.types.empty()) return;
    clicks.types.clear();
    for (std::size_t position = 0, unknown = 0; position < count; ++position) {
        if (unknown < clicks.unknown.size() && clicks.unknown[unknown] == position) {
            ++unknown;
        } else {
            clicks.types.push_back(request.types[first + position]);
        }
    }
}

void Recommender::refuse_other_kind(IdList session) const {
    const bool text = bundle_->ids().text();
    if (session.count == 0 || std::any_of(session.ids, session.ids + session.count,
                                          [&](const mtaw_id& id) { return (id.text != nullptr) == text; }))
        return;
    throw usage(std::string("the session has no id of the catalog's kind: the catalog's ids are ") +
                (text ? "texts" : "numbers") + "; convert them");
}

std::unique_ptr<Answer> Recommender::answer_with(Clicks clicks, const Request& request, const Rank& rank) const {
    const Conditions conditions = request.conditions();
    Arranged ranking;
    if (request.rules != nullptr) {
        const std::vector<std::int32_t>& known = clicks.known;
        const auto bound = request.rules->bound(known.empty() ? std::nullopt : std::optional(known.back()));
        const std::int64_t offsets[] = {0, static_cast<std::int64_t>(known.size())};
        ranking = std::move(
            rank_ruled({&*bound->rules, bundle_->n_eligible()}, {known.data(), offsets, 1}, request.k, conditions,
                       [&](const std::vector<std::int64_t>&, std::int64_t depth, const Conditions& within,
                           std::int32_t* ids, float* scores) { rank(depth, within, ids, scores); })
                .front());
    } else {
        ranking.ids.resize(static_cast<std::size_t>(request.k));
        ranking.scores.resize(ranking.ids.size());
        rank(request.k, conditions, ranking.ids.data(), ranking.scores.data());
        trim(ranking);
    }
    return answer_of(std::move(clicks), request, std::move(ranking));
}

std::unique_ptr<Answer> Recommender::answer_of(Clicks clicks, const Request& request, Arranged ranking) const {
    std::vector<Reason> reasons;
    if (request.reasons && !clicks.known.empty()) reasons = reasons_of(bundle_->memory(), clicks.known, ranking);
    const bool cut_short = request.rules != nullptr && static_cast<std::int64_t>(ranking.ids.size()) < request.k;
    auto answer = Answer::of(bundle_->ids(), std::move(ranking), reasons, std::move(clicks.unknown),
                             clicks.known.empty(), cut_short);
    if (request.rule_set != nullptr) answer->name_rule_set(*request.rule_set);
    return answer;
}

std::unique_ptr<Answer> Recommender::recommend(Clicks clicks, const Request& request) const {
    if (clicks.known.empty()) {
        return answer_with(std::move(clicks), request,
                           [&](std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores) {
                               rank_popular(engine_, item_clicks(), k, conditions, ids, scores);
                           });
    }
    const std::vector<std::int32_t> known = clicks.known;
    const std::vector<std::uint8_t> types = clicks.types;
    const std::int64_t offsets[] = {0, static_cast<std::int64_t>(known.size())};
    PackedSessions session{known.data(), offsets, 1};
    session.types = types.empty() ? nullptr : types.data();
    const Borrowed scratch(*this);
    return answer_with(std::move(clicks), request,
                       [&](std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores) {
                           engine_.rank(session, k, conditions, ids, scores, *scratch);
                       });
}

std::unique_ptr<Answer> Recommender::recommend_growing(SessionState& state, const Clicks& clicks, std::int64_t n_new,
                                                       const Request& request) const {
    if (clicks.known.empty() || request.rules != nullptr) return recommend(clicks, request);
    check_growing(static_cast<std::int64_t>(clicks.known.size()), n_new);
    const Borrowed scratch(*this);
    return answer_with(
        clicks, request, [&](std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores) {
            engine_.rank_growing(state, clicks.known.data(), static_cast<std::int64_t>(clicks.known.size()), n_new, k,
                                 conditions, ids, scores, *scratch,
                                 clicks.types.empty() ? nullptr : clicks.types.data());
        });
}

std::vector<std::unique_ptr<Answer>> Recommender::recommend_batch(std::vector<Clicks> sessions,
                                                                  const Request& request) const {
    std::vector<std::unique_ptr<Answer>> answers;
    answers.reserve(sessions.size());
    if (request.rules != nullptr) {  // which may mean something else for each session
        for (Clicks& session : sessions) answers.push_back(recommend(std::move(session), request));
        return answers;
    }
    std::vector<std::int32_t> clicks;
    std::vector<std::uint8_t> types;
    std::vector<std::int64_t> offsets{0};
    for (const Clicks& session : sessions) {
        clicks.insert(clicks.end(), session.known.begin(), session.known.end());
        types.insert(types.end(), session.types.begin(), session.types.end());
        offsets.push_back(static_cast<std::int64_t>(clicks.size()));
    }
    PackedSessions packed{clicks.data(), offsets.data(), static_cast<std::int64_t>(sessions.size())};
    packed.types = types.empty() ? nullptr : types.data();
    std::vector<std::int32_t> ids(sessions.size() * static_cast<std::size_t>(request.k));
    std::vector<float> scores(ids.size());
    const ItemClicks popular = item_clicks();
    {
        const Borrowed scratch(*this);
        rank_batch(engine_, &popular, packed, request.k, request.conditions(), ids.data(), scores.data(), *scratch);
    }
    for (std::size_t b = 0; b < sessions.size(); ++b) {
        const auto from = static_cast<std::ptrdiff_t>(b) * request.k, to = from + request.k;
        Arranged ranking;
        ranking.ids.assign(ids.begin() + from, ids.begin() + to);
        ranking.scores.assign(scores.begin() + from, scores.begin() + to);
        trim(ranking);
        answers.push_back(answer_of(std::move(sessions[b]), request, std::move(ranking)));
    }
    return answers;
}

std::unique_ptr<Answer> Recommender::similar(std::int32_t item, bool by_sessions, Request request) const {
    const auto found = std::lower_bound(request.excluded.begin(), request.excluded.end(), item);
    if (found == request.excluded.end() || *found != item) request.excluded.insert(found, item);
    request.exclude_seen = false;
    request.reasons = false;
    const Borrowed scratch(*this);
    return answer_with({{item}, {}, {}}, request,
                       [&](std::int64_t k, const Conditions& conditions, std::int32_t* ids, float* scores) {
                           if (by_sessions) {
                               rank_by_sessions(engine_, item, k, conditions, ids, scores);
                           } else {
                               rank_by_vector(engine_, item, k, conditions, ids, scores, *scratch);
                           }
                       });
}

}  // namespace mtaw
