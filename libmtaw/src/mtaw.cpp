// The functions of mtaw.h: arguments checked, exceptions turned into statuses.
#include "mtaw.h"

#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "answer.hpp"
#include "bundle/bundle.hpp"
#include "failure.hpp"
#include "isa.hpp"
#include "log.hpp"
#include "memory.hpp"
#include "recommender.hpp"
#include "rules.hpp"
#include "session.hpp"
#include "text/utf8.hpp"

struct mtaw_recommender {
    std::shared_ptr<const mtaw::Recommender> object;
};

struct mtaw_session {
    mtaw::Session object;
};

namespace mtaw {
namespace {

// The first fields of the structures of mtaw.h: how much of one its caller knows.
constexpr std::size_t kFirstInfo = offsetof(mtaw_info, version) + sizeof mtaw_info::version;
constexpr std::size_t kFirstOpen = offsetof(mtaw_open_options, files) + sizeof mtaw_open_options::files;

mtaw_status report_failure(mtaw_status status, const char* message, mtaw_error* error) noexcept {
    if (error == nullptr) return status;
    error->status = status;
    std::size_t size = std::min(std::strlen(message), std::size_t{MTAW_MESSAGE_SIZE - 1});
    const auto is_tail = [&](std::size_t offset) {
        return (static_cast<unsigned char>(message[offset]) & 0xC0U) == 0x80;
    };
    while (size > 0 && message[size] != '\0' && is_tail(size)) --size;  // no half character
    for (std::size_t i = 0; i < size; ++i)
        error->message[i] = static_cast<unsigned char>(message[i]) < 0x20 ? ' ' : message[i];
    error->message[size] = '\0';
    return status;
}

// While it lives, a request to cancel the thread waits. It would unwind the stack from a call to the system, and the
// process ends where such an unwinding meets `noexcept` or `catch (...)`.
class Uncanceled {
   public:
    Uncanceled() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~Uncanceled() { pthread_setcancelstate(before_, nullptr); }
    Uncanceled(const Uncanceled&) = delete;
    Uncanceled& operator=(const Uncanceled&) = delete;

   private:
    int before_ = PTHREAD_CANCEL_ENABLE;
};

// Runs a function of the interface: whatever it throws becomes a status and a line.
template <typename Work>
mtaw_status guarded(mtaw_error* error, const Work& work) noexcept {
    const Uncanceled uncanceled;
    try {
        work();
        if (error != nullptr) {
            error->status = MTAW_OK;
            error->message[0] = '\0';
        }
        return MTAW_OK;
    } catch (const Failure& failure) {
        return report_failure(failure.status(), failure.what(), error);
    } catch (const BundleError& wrong) {
        return report_failure(MTAW_BUNDLE, wrong.what(), error);
    } catch (const std::bad_alloc&) {
        return report_failure(MTAW_NO_MEMORY, "there is no memory left; give the process more", error);
    } catch (const std::length_error&) {  // of a container
        return report_failure(MTAW_NO_MEMORY, "there is no memory for a list of this length", error);
    } catch (const std::invalid_argument& wrong) {  // of the core's own checks
        return report_failure(MTAW_USAGE, wrong.what(), error);
    } catch (const std::exception& defect) {
        return report_failure(MTAW_INTERNAL, defect.what(), error);
    } catch (...) {
        return report_failure(MTAW_INTERNAL, "an unknown exception", error);
    }
}

template <typename T>
T& needed(const char* name, T* argument) {
    if (argument == nullptr) throw usage(std::string(name) + " must not be NULL");
    return *argument;
}

const Recommender& recommender_of(const mtaw_recommender* recommender) {
    return *needed("recommender", recommender).object;
}

// The file system's, unless others are given.
FileAccess access_of(const mtaw_file_methods* given, bool map) {
    if (given == nullptr) {
        return FileAccess::of_system(map ? Mapping::map : Mapping::seal,
                                     static_cast<int>(std::thread::hardware_concurrency()));
    }
    if (given->struct_size < sizeof(mtaw_file_methods) || given->open == nullptr || given->read == nullptr ||
        given->close == nullptr) {
        throw usage("files: the methods need open, read and close, and struct_size = sizeof(mtaw_file_methods)");
    }
    return {{given->context, given->open, given->read, given->map, given->close}, Mapping::map};
}

// The path of a folder. An empty one would be the root.
const char* folder_of(const char* folder) {
    if (needed("folder", folder) == '\0') throw usage("folder must not be empty");
    return folder;
}

// Frees an object, and with the last one of a mapped bundle its files.
template <typename T>
void release(T* object) noexcept {
    const Uncanceled uncanceled;
    delete object;
}

void write_position(const std::string& from, char* position) {
    if (position != nullptr) std::memcpy(position, from.c_str(), from.size() + 1);
}

}  // namespace
}  // namespace mtaw

using mtaw::guarded;
using mtaw::needed;

extern "C" {

const char* mtaw_status_name(mtaw_status status) {
    constexpr const char* kNames[] = {"ok", "usage", "bundle", "log", "no memory", "internal"};
    return status < MTAW_OK || status > MTAW_INTERNAL ? "unknown" : kNames[status];
}

const char* mtaw_version(void) { return MTAW_VERSION; }

int32_t mtaw_abi(void) { return MTAW_ABI; }

const char* mtaw_capabilities(void) {
    return "session similar filter rules reasons types log map placement bundle-1 bundle-2 bundle-3 bundle-4";
}

const char* mtaw_instruction_set(void) {
    try {
        return mtaw::isa_name(mtaw::active_isa());
    } catch (...) {
        return nullptr;
    }
}

mtaw_status mtaw_set_allocator(const mtaw_allocator* allocator, mtaw_error* error) {
    // Not `guarded`: nothing may be allocated here.
    if (allocator == nullptr || allocator->struct_size < sizeof(mtaw_allocator) || allocator->allocate == nullptr ||
        allocator->release == nullptr) {
        return mtaw::report_failure(MTAW_USAGE, "the allocator needs struct_size, allocate and release", error);
    }
    if (!mtaw::set_allocator(*allocator)) {
        return mtaw::report_failure(MTAW_USAGE, "the allocator must be set before any other call", error);
    }
    if (error != nullptr) *error = {MTAW_OK, {}};
    return MTAW_OK;
}

mtaw_status mtaw_open(const char* folder, const mtaw_open_options* options, mtaw_recommender** recommender,
                      mtaw_error* error) {
    return guarded(error, [&] {
        needed("recommender", recommender);
        mtaw::active_isa();  // throws if MTAW_ISA is wrong, which is no fault of the bundle
        mtaw_open_options known_options{sizeof known_options, 0, nullptr};
        if (options != nullptr) {
            if (options->struct_size < mtaw::kFirstOpen)
                throw mtaw::usage("options: struct_size must be sizeof(mtaw_open_options)");
            std::memcpy(&known_options, options, std::min(options->struct_size, sizeof known_options));
        }
        if ((known_options.flags & ~static_cast<std::uint32_t>(MTAW_NO_VERIFY | MTAW_MAP)) != 0)
            throw mtaw::usage("options: there is no such flag");
        const auto access = mtaw::access_of(known_options.files, (known_options.flags & MTAW_MAP) != 0);
        auto bundle = mtaw::Bundle::open(mtaw::folder_of(folder), access, (known_options.flags & MTAW_NO_VERIFY) == 0);
        auto opened = std::make_unique<mtaw_recommender>();
        opened->object = std::make_shared<const mtaw::Recommender>(std::move(bundle));
        *recommender = opened.release();
    });
}

void mtaw_close(mtaw_recommender* recommender) { mtaw::release(recommender); }

mtaw_status mtaw_describe(const mtaw_recommender* recommender, mtaw_info* info, mtaw_error* error) {
    return guarded(error, [&] {
        const mtaw::Bundle& bundle = mtaw::recommender_of(recommender).bundle();
        const std::size_t known = needed("info", info).struct_size;
        if (known < mtaw::kFirstInfo) throw mtaw::usage("info: struct_size must be sizeof(mtaw_info)");
        mtaw_info found{};
        found.struct_size = known;
        found.n_items = bundle.n_eligible();
        found.catalog_size = bundle.size();
        found.id_kind = bundle.ids().text() ? MTAW_TEXT_IDS : MTAW_INT_IDS;
        found.dimensions = static_cast<int32_t>(bundle.manifest().settings.d);
        found.has_memory = bundle.has_memory() ? 1 : 0;
        found.has_times = bundle.trends() != nullptr ? 1 : 0;
        found.bundle_format = static_cast<int32_t>(bundle.manifest().format);
        std::memcpy(found.version, bundle.manifest().version.c_str(), sizeof found.version);
        std::memcpy(info, &found, std::min(known, sizeof found));
    });
}

const char* mtaw_click_type(const mtaw_recommender* recommender, size_t index) {
    if (recommender == nullptr) return nullptr;
    const auto& types = recommender->object->bundle().types();
    return index < types.size() ? types[index].c_str() : nullptr;
}

const char* mtaw_context_column(const mtaw_recommender* recommender, size_t index) {
    if (recommender == nullptr) return nullptr;
    const auto& columns = recommender->object->bundle().context().columns;
    return index < columns.size() ? columns[index].name.c_str() : nullptr;
}

void mtaw_options_init_sized(mtaw_options* options, size_t struct_size) {
    if (options == nullptr || struct_size < sizeof(std::size_t)) return;
    mtaw_options defaults{};
    defaults.struct_size = struct_size;
    defaults.k = 20;
    defaults.at = MTAW_NOW;
    if (struct_size > sizeof defaults) std::memset(options, 0, struct_size);
    std::memcpy(options, &defaults, std::min(struct_size, sizeof defaults));
}

void mtaw_answer_free(mtaw_answer* answer) { mtaw::Answer::free(answer); }

mtaw_status mtaw_recommend(const mtaw_recommender* recommender, const mtaw_id* clicks, size_t n_clicks,
                           const mtaw_options* options, mtaw_answer** answer, mtaw_error* error) {
    return guarded(error, [&] {
        needed("answer", answer);
        const mtaw::Recommender& self = mtaw::recommender_of(recommender);
        const mtaw::IdList session = mtaw::id_list("clicks", clicks, n_clicks);
        const mtaw::Request request = self.request_of(options);
        mtaw::Clicks session_clicks = self.clicks_of(session);
        if (session_clicks.known.empty()) self.refuse_other_kind(session);
        self.check_types(n_clicks, request);
        self.add_types(session_clicks, n_clicks, request);
        *answer = mtaw::Answer::release(self.recommend(std::move(session_clicks), request));
    });
}

mtaw_status mtaw_recommend_batch(const mtaw_recommender* recommender, const mtaw_clicks* sessions, size_t n_sessions,
                                 const mtaw_options* options, mtaw_answer** answers, mtaw_error* error) {
    return guarded(error, [&] {
        if (n_sessions == 0) return;
        needed("sessions", sessions);
        needed("answers", answers);
        const mtaw::Recommender& self = mtaw::recommender_of(recommender);
        const mtaw::Request request = self.request_of(options);
        std::vector<mtaw::Clicks> session_clicks;
        session_clicks.reserve(n_sessions);
        std::size_t n_clicks = 0;
        for (std::size_t b = 0; b < n_sessions; ++b) n_clicks += sessions[b].n;
        self.check_types(n_clicks, request);
        n_clicks = 0;
        for (std::size_t b = 0; b < n_sessions; ++b) {
            const mtaw::IdList session = mtaw::id_list("sessions", sessions[b].ids, sessions[b].n);
            session_clicks.push_back(self.clicks_of(session));
            if (session_clicks.back().known.empty()) self.refuse_other_kind(session);
            self.add_types(session_clicks.back(), session.count, request, n_clicks);
            n_clicks += session.count;
        }
        std::vector<std::unique_ptr<mtaw::Answer>> results = self.recommend_batch(std::move(session_clicks), request);
        for (std::size_t b = 0; b < n_sessions; ++b) answers[b] = mtaw::Answer::release(std::move(results[b]));
    });
}

mtaw_status mtaw_similar(const mtaw_recommender* recommender, mtaw_id item, int32_t by, const mtaw_options* options,
                         mtaw_answer** answer, mtaw_error* error) {
    return guarded(error, [&] {
        needed("answer", answer);
        const mtaw::Recommender& self = mtaw::recommender_of(recommender);
        mtaw::Request request = self.request_of(options);
        if (options != nullptr && (request.exclude_seen || request.reasons || request.n_types ||
                                   options->at != MTAW_NOW || options->n_context > 0))
            throw mtaw::usage("similar: there is no at, exclude_seen, context, types or reasons; leave them out");
        const std::int32_t internal_id = lookup(self.bundle().ids(), mtaw::IdList{&item, 1}).front();
        if (internal_id == mtaw::kUnknownId)
            throw mtaw::usage("similar: the catalog does not know the item; pass one of its external ids");
        if (by != MTAW_BY_VECTORS && by != MTAW_BY_SESSIONS)
            throw mtaw::usage("similar: by must be MTAW_BY_VECTORS or MTAW_BY_SESSIONS");
        if (by == MTAW_BY_SESSIONS && !self.bundle().has_memory())
            throw mtaw::usage("similar: this bundle has no session memory; use MTAW_BY_VECTORS");
        *answer = mtaw::Answer::release(self.similar(internal_id, by == MTAW_BY_SESSIONS, std::move(request)));
    });
}

mtaw_status mtaw_session_open(const mtaw_recommender* recommender, mtaw_session** session, mtaw_error* error) {
    return guarded(error, [&] {
        needed("session", session);
        *session = new mtaw_session{mtaw::Session(needed("recommender", recommender).object)};
    });
}

mtaw_status mtaw_session_click(mtaw_session* session, const mtaw_id* clicks, size_t n_clicks, mtaw_error* error) {
    return guarded(error, [&] { needed("session", session).object.click(mtaw::id_list("clicks", clicks, n_clicks)); });
}

mtaw_status mtaw_session_recommend(mtaw_session* session, const mtaw_options* options, mtaw_answer** answer,
                                   mtaw_error* error) {
    return guarded(error, [&] {
        needed("answer", answer);
        mtaw::Session& self = needed("session", session).object;
        *answer = mtaw::Answer::release(self.recommend(self.recommender().request_of(options)));
    });
}

void mtaw_session_close(mtaw_session* session) { mtaw::release(session); }

mtaw_status mtaw_filter_open(const mtaw_recommender* recommender, const mtaw_id* exclude, size_t n_exclude,
                             const mtaw_id* allow, size_t n_allow, mtaw_filter** filter, mtaw_error* error) {
    return guarded(error, [&] {
        needed("filter", filter);
        const mtaw::Recommender& self = mtaw::recommender_of(recommender);
        auto bits =
            self.filter_bits(mtaw::id_list("exclude", exclude, n_exclude), mtaw::id_list("allow", allow, n_allow));
        *filter = reinterpret_cast<mtaw_filter*>(new mtaw::Filter{self.bundle().manifest().version, std::move(bits)});
    });
}

void mtaw_filter_close(mtaw_filter* filter) { delete reinterpret_cast<mtaw::Filter*>(filter); }

mtaw_status mtaw_rules_open(const mtaw_recommender* recommender, const char* json, size_t size, mtaw_rules** rules,
                            mtaw_error* error) {
    return guarded(error, [&] {
        needed("rules", rules);
        needed("json", json);
        const mtaw::Recommender& self = mtaw::recommender_of(recommender);
        *rules = reinterpret_cast<mtaw_rules*>(new mtaw::Rules(self.shared_bundle(), {json, size}));
    });
}

void mtaw_rules_close(mtaw_rules* rules) { mtaw::release(reinterpret_cast<mtaw::Rules*>(rules)); }

mtaw_status mtaw_log_open(const char* folder, uint32_t flags, mtaw_log** log, mtaw_error* error) {
    return guarded(error, [&] {
        needed("log", log);
        if ((flags & ~static_cast<std::uint32_t>(MTAW_NO_SYNC)) != 0) throw mtaw::usage("flags: there is no such flag");
        *log = reinterpret_cast<mtaw_log*>(new mtaw::EventLog(mtaw::folder_of(folder), (flags & MTAW_NO_SYNC) == 0));
    });
}

void mtaw_log_close(mtaw_log* log) { mtaw::release(reinterpret_cast<mtaw::EventLog*>(log)); }

mtaw_status mtaw_log_append(mtaw_log* log, const mtaw_event* events, size_t n_events, char position[MTAW_POSITION_SIZE],
                            mtaw_error* error) {
    return guarded(error, [&] {
        needed("log", log);
        mtaw::write_position(reinterpret_cast<mtaw::EventLog*>(log)->append(events, n_events), position);
    });
}

mtaw_status mtaw_log_forget(mtaw_log* log, const char* session, char position[MTAW_POSITION_SIZE], mtaw_error* error) {
    return guarded(error, [&] {
        needed("log", log);
        mtaw::write_position(reinterpret_cast<mtaw::EventLog*>(log)->forget(session), position);
    });
}

}  // extern "C"
