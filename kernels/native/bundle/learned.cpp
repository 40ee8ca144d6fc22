#include "bundle/learned.hpp"

#include <algorithm>
#include <stdexcept>

#include "bundle/failure.hpp"
#include "text/json.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr std::int64_t kLearnedLayout = 3;
constexpr const char* kItemLists[] = {"untrained", "removed", "hidden", "seed_items", "seed_neighbors", "given_items"};

class LearnedCheck {
   public:
    LearnedCheck(const TensorFile& file, std::int64_t n_items) : file_(file), n_items_(n_items) {}

    [[noreturn]] void refuse(const std::string& what) const {
        throw bundle_error(file_.bytes().path() + ": the learned state is damaged (" + what +
                           "); rebuild it from the log");
    }

    template <typename T>
    std::int64_t vector(const char* name) const {
        file_.get<T>(name, {kAny});
        return file_.length(name);
    }

    void in_range(const char* name, std::int64_t end) const {
        const std::int64_t count = vector<std::int32_t>(name);
        const auto* const values = file_.get<std::int32_t>(name, {count});
        const bool fits =
            std::all_of(values, values + count, [&](std::int32_t value) { return value >= 0 && value < end; });
        if (!fits) refuse(std::string(name) + " points outside 0.." + std::to_string(end - 1));
    }

    const Json& member(const Json& about, const char* name, Json::Kind kind) const {
        const Json* const found = about.find(name);
        if (found == nullptr || !found->is(kind)) refuse(name);
        return *found;
    }

    void items(const Json& list, std::size_t count, const char* name) const {
        for (std::size_t i = 0; i < count; ++i) {
            const std::optional<std::int64_t> item = list.list()[i].whole();
            if (!item || *item < 0 || *item >= n_items_) refuse(std::string(name) + " points outside the catalog");
        }
    }

    void whole_numbers(const Json& list, const char* name) const {
        for (const Json& value : list.list()) {
            // Keys of sessions are uint64.
            if (!value.is(Json::Kind::number) || value.text().find_first_not_of("0123456789-") != std::string::npos)
                refuse(name);
        }
    }

    void about(const Json& about) const {
        if (const Json* const layout = about.find("layout"); layout == nullptr || layout->whole() != kLearnedLayout)
            throw bundle_error(file_.bytes().path() + ": its layout is not 3; train again");
        constexpr std::string_view kMembers[] = {
            "layout", "log",  "position",       "clock_state", "open",           "since",       "entered",
            "added",  "left", "content_priors", "candidates",  "refused_tables", "removed_ids", "displays"};
        for (const auto& [name, value] : about.members()) {
            if (std::find(std::begin(kMembers), std::end(kMembers), name) == std::end(kMembers)) refuse(shown(name));
        }
        member(about, "log", Json::Kind::text);
        member(about, "position", Json::Kind::text);
        for (const auto& [name, time] : member(about, "clock_state", Json::Kind::object).members()) {
            if (!time.whole()) refuse("clock_state");
        }
        for (const auto& [name, session] : member(about, "open", Json::Kind::object).members()) {
            const std::vector<Json>& values = session.list();
            const bool fits = values.size() == 5 && values[0].whole() && values[1].whole() && values[2].whole() &&
                              values[3].is(Json::Kind::boolean) && values[4].is(Json::Kind::list);
            if (!fits) refuse("open");
            whole_numbers(values[4], "open");
        }
        const Json* const since = about.find("since");
        if (since == nullptr || (!since->is(Json::Kind::null) && !since->whole())) refuse("since");
        for (const Json& prior : member(about, "content_priors", Json::Kind::list).list()) {
            if (prior.list().size() != 3 || !prior.list()[2].whole()) refuse("content_priors");
            items(prior, 2, "content_priors");
        }
        if (const Json* const displays = about.find("displays"); displays != nullptr) {
            if (!displays->is(Json::Kind::list)) refuse("displays");
            for (const Json& count : displays->list()) {
                if (count.list().size() != 2 || count.list()[1].whole().value_or(-1) < 0) refuse("displays");
                items(count, 1, "displays");
            }
        }
        if (!member(about, "entered", Json::Kind::number).whole()) refuse("entered");
        for (const char* const name : {"added", "left"}) {
            const Json& list = member(about, name, Json::Kind::list);
            items(list, list.list().size(), name);
        }
        for (const Json& candidate : member(about, "candidates", Json::Kind::list).list()) {
            const std::vector<Json>& values = candidate.list();
            if (values.size() != 2 || !is_id(values[0]) || !values[1].is(Json::Kind::list)) refuse("candidates");
            whole_numbers(values[1], "candidates");
        }
        for (const Json& table : member(about, "refused_tables", Json::Kind::list).list()) {
            if (!table.is(Json::Kind::text)) refuse("refused_tables");
        }
        for (const Json& id : member(about, "removed_ids", Json::Kind::list).list()) {
            if (!is_id(id)) refuse("removed_ids");
        }
    }

   private:
    static bool is_id(const Json& value) { return value.is(Json::Kind::text) || value.whole().has_value(); }

    const TensorFile& file_;
    std::int64_t n_items_;
};

}  // namespace

void check_learned(const TensorFile& file, std::int64_t n_items, std::int64_t n_sessions) {
    std::vector<std::string_view> names = {"about",   "keys",   "sessions",   "last",           "seen",   "untrained",
                                           "removed", "hidden", "seed_items", "seed_neighbors", "carried"};
    for (const std::string_view added : {"given_items", "given_vectors", "seed_times"}) {
        if (file.has(added)) names.push_back(added);
    }
    file.check_names(names, {"guard_traffic", "guard_flood_sessions", "guard_flood_items", "guard_crowd",
                             "guard_visits", "guard_pair_cells", "guard_pair_counts"});
    const LearnedCheck check(file, n_items);
    try {
        check.about(Json::parse(file.text("about")));
    } catch (const std::invalid_argument& error) {
        check.refuse(error.what());
    }
    const std::int64_t n_keys = check.vector<std::uint64_t>("keys");
    check.vector<std::uint64_t>("seen");
    check.vector<std::uint8_t>("carried");
    for (const char* const name : kItemLists) {
        if (file.has(name)) check.in_range(name, n_items);
    }
    check.in_range("sessions", n_sessions);
    const std::int64_t n_given = file.has("given_items") ? file.length("given_items") : 0;
    const std::int64_t n_vectors = file.has("given_vectors") ? check.vector<float>("given_vectors") : 0;
    if (check.vector<std::int64_t>("last") != n_keys || file.length("sessions") != n_keys ||
        file.length("seed_items") != file.length("seed_neighbors") ||
        (file.has("seed_times") && check.vector<std::int64_t>("seed_times") != file.length("seed_items")) ||
        n_vectors % std::max<std::int64_t>(n_given, 1) != 0) {
        check.refuse("its arrays differ in length");
    }
    const auto* const keys = file.get<std::uint64_t>("keys", {n_keys});
    if (!std::is_sorted(keys, keys + n_keys)) check.refuse("the session keys do not ascend");
    if (!file.has("guard_traffic")) return;
    const bool fits = file.is("guard_traffic", Dtype::i64) && file.is("guard_flood_sessions", Dtype::u64) &&
                      file.is("guard_flood_items", Dtype::u32) && file.is("guard_crowd", Dtype::i64) &&
                      file.is("guard_visits", Dtype::u32) && file.is("guard_pair_cells", Dtype::u32) &&
                      file.is("guard_pair_counts", Dtype::u8);
    if (!fits) check.refuse("the state of its guards");
}

}  // namespace mtaw
