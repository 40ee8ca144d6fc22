#include "log.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "failure.hpp"
#include "bundle/files.hpp"
#include "records/records.hpp"
#include "text/json.hpp"
#include "text/moments.hpp"
#include "limits.hpp"
#include "text/utf8.hpp"

namespace mtaw {
namespace {

constexpr off_t kSegmentBytes = 64 << 20;
constexpr std::size_t kMaxRecord = 64 << 20;
constexpr std::size_t kMaxText = 512;  // characters
constexpr const char* kMayCount =
    "; some of these events may be learned all the same: send them again with their ids, so that each counts once";

// A text of an event. Throws Failure unless it is one.
std::string_view checked(const std::string& where, const char* name, const char* text_or_null) {
    const std::string_view text = text_or_null == nullptr ? "" : text_or_null;
    if (text.empty()) throw usage(where + ": " + name + " must be a text that is not empty");
    if (!is_utf8(text)) throw usage(where + ": " + name + " is not valid Unicode; send UTF-8");
    if (count_characters(text) > kMaxText) throw usage(where + ": " + name + " has more than 512 characters");
    return text;
}

void add_item(std::string& line, const std::string& where, const mtaw_id& item) {
    if (item.text == nullptr) {
        line += std::to_string(item.value);
        return;
    }
    const std::string_view text{item.text,
                                item.value < 0 ? std::strlen(item.text) : static_cast<std::size_t>(item.value)};
    if (text.empty() || !is_utf8(text)) throw usage(where + ": item must be a number or UTF-8 text that is not empty");
    if (count_characters(text) > kMaxText) throw usage(where + ": item has more than 512 characters");
    write_json_text(line, text, false);
}

void add_context(std::string& line, const std::string& where, const mtaw_event& event) {
    if (event.n_context > 0 && event.context == nullptr) throw usage(where + ": context is NULL, but not empty");
    if (event.n_context > kMaxContextColumns) throw usage(where + ": context has more than 8 columns");
    bool first = true;
    for (std::size_t i = 0; i < event.n_context; ++i) {
        const std::string_view name = event.context[i].name == nullptr ? "" : event.context[i].name;
        const std::string_view value = event.context[i].value == nullptr ? "" : event.context[i].value;
        if (!is_utf8(name) || !is_utf8(value)) throw usage(where + ": context is not valid Unicode; send UTF-8");
        if (count_characters(value) > kMaxContextCharacters)
            throw usage(where + ": context: " + shown(name) + " has more than 200 characters");
        if (value.empty()) continue;
        line += first ? ",\"context\":{" : ",";
        write_json_text(line, name, false);
        line += ':';
        write_json_text(line, value, false);
        first = false;
    }
    if (!first) line += '}';
}

// As Click.line of mtaw_fast/online/log/events.py.
std::string line_of(const mtaw_event& event, const std::string& where) {
    std::string line = "{\"session\":";
    write_json_text(line, checked(where, "session", event.session), false);
    line += ",\"item\":";
    add_item(line, where, event.item);
    const std::int64_t time = event.time == MTAW_NOW ? now() : event.time;
    if (const std::string wrong = other_unit(time); !wrong.empty())
        throw usage(where + ": time " + std::to_string(time) + wrong);
    if (time < 0 || time > kLatestMoment)
        throw usage(where + ": time " + std::to_string(time) + " must be Unix milliseconds from 1970 to 2100");
    line += ",\"time\":" + std::to_string(time);
    if (event.type != nullptr) {
        line += ",\"type\":";
        write_json_text(line, checked(where, "type", event.type), false);
    }
    if (event.id != nullptr) {
        line += ",\"id\":";
        write_json_text(line, checked(where, "id", event.id), false);
    }
    add_context(line, where, event);
    return line + "}";
}

void add_event(std::string& out, const std::string& line) {
    if (line.size() > kMaxRecord)
        throw usage("an event of " + std::to_string(line.size()) + " bytes is too large for the log");
    add_record(out, line);
}

// The number of events-<number>.log; none for another name.
std::optional<long long> number_of(std::string_view name) {
    constexpr std::string_view kBefore = "events-", kAfter = ".log";
    if (!name.starts_with(kBefore) || !name.ends_with(kAfter) || name.size() < kBefore.size() + 10 + kAfter.size())
        return std::nullopt;
    const char *const begin = name.data() + kBefore.size(), *const end = name.data() + name.size() - kAfter.size();
    long long number = 0;
    const auto [stopped, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stopped != end || *begin == '-') return std::nullopt;
    return number;
}

// The folder that has a path.
std::string parent_of(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return path.substr(0, std::max<std::size_t>(slash, 1));
}

// Flushes the names in a folder; an errno value on failure.
int flush_names(const std::string& folder) {
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) return errno;
    const int error = fsync(file) == 0 ? 0 : errno;
    ::close(file);
    return error;
}

}  // namespace

// Holds the lock of the folder, shared or exclusive, as long as it lives.
class EventLog::Held {
   public:
    Held(const EventLog& log, int how) : file_(log.lock_file_) {
        int failed;
        do {
            failed = flock(file_, how);
        } while (failed != 0 && errno == EINTR);
        if (failed != 0) log.fail("cannot lock", errno);
    }
    ~Held() { flock(file_, LOCK_UN); }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

   private:
    int file_;
};

EventLog::EventLog(const std::string& folder, bool sync) : folder_(folder), sync_(sync) {
    if (folder_.empty()) throw usage("folder must not be empty");
    make_folder();
    lock_file_ = ::open((folder_ + "/.append.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_file_ < 0) fail("cannot open the lock of", errno);
    try {
        {
            const Held held(*this, LOCK_EX);
            identify();
            if (newest_segment() < 0) create_segment(0);
        }
        open_segment(newest_segment());
    } catch (...) {
        ::close(lock_file_);
        throw;
    }
}

EventLog::~EventLog() {
    if (file_ >= 0) {
        fdatasync(file_);
        ::close(file_);
    }
    ::close(lock_file_);
}

std::string EventLog::append(const mtaw_event* events, std::size_t count) {
    if (count == 0 || events == nullptr) throw usage("append: there is no event");
    std::string lines = "\n";  // a record that another writer could not finish ends here
    for (std::size_t i = 0; i < count; ++i) add_event(lines, line_of(events[i], "event " + std::to_string(i)));
    return store(lines);
}

std::string EventLog::forget(const char* session) {
    std::string line = "{\"forget\":", lines = "\n";
    write_json_text(line, checked("forget", "session", session), false);
    add_event(lines, line + ",\"time\":" + std::to_string(now()) + "}");
    return store(lines);
}

std::string EventLog::store(const std::string& lines) {
    const std::lock_guard guard(mutex_);
    std::string position(MTAW_POSITION_SIZE, '\0');  // first: what is stored must not end with MTAW_NO_MEMORY
    std::optional<off_t> end;
    while (!(end = written(lines))) open_segment(next_segment());
    if (sync_ && fdatasync(file_) != 0) fail("cannot flush the log in", errno, kMayCount);
    std::snprintf(position.data(), position.size(), "%010lld-%012lld", number_, static_cast<long long>(*end));
    position.resize(std::strlen(position.c_str()));
    return position;
}

std::optional<off_t> EventLog::written(const std::string& lines) const {
    const Held held(*this, LOCK_SH);  // nobody creates the next segment now
    struct stat open{};
    if (fstat(file_, &open) != 0) fail("cannot read", errno);
    if (is_succeeded(open) || open.st_size >= kSegmentBytes) return std::nullopt;
    ssize_t count;
    do {
        count = ::write(file_, lines.data(), lines.size());
    } while (count < 0 && errno == EINTR);
    if (count < 0) fail("cannot append to the log in", errno, kMayCount);
    if (static_cast<std::size_t>(count) != lines.size()) {
        throw Failure(MTAW_LOG, "the log in " + folder_ + " is full: " + std::to_string(count) + " of " +
                                    std::to_string(lines.size()) + " bytes were written; free some space" + kMayCount);
    }
    return lseek(file_, 0, SEEK_CUR);
}

bool EventLog::is_succeeded(const struct stat& open) const {
    const std::string path = path_of(number_);
    struct stat named{};
    if (stat(path.c_str(), &named) == 0) {
        if (open.st_ino == named.st_ino && open.st_dev == named.st_dev)
            return stat(path_of(number_ + 1).c_str(), &named) == 0;
    } else if (errno != ENOENT) {
        fail("cannot read", errno);
    } else if (newest_segment() > number_) {  // `expire` of a learning process may have deleted it
        return true;
    }
    throw Failure(MTAW_LOG, path + " was removed or replaced while it was in use; restore the log, then start again");
}

long long EventLog::next_segment() const {
    const Held held(*this, LOCK_EX);
    const long long newest = newest_segment();
    struct stat status{};
    if (newest < 0 || stat(path_of(newest).c_str(), &status) != 0) {
        throw Failure(MTAW_LOG,
                      "the log in " + folder_ + " was removed while it was in use; restore it, then start again");
    }
    if (status.st_size < kSegmentBytes) return newest;
    create_segment(newest + 1);
    return newest + 1;
}

std::string EventLog::path_of(long long number) const {
    char name[64];
    std::snprintf(name, sizeof name, "/events-%010lld.log", number);
    return folder_ + name;
}

long long EventLog::newest_segment() const {
    DIR* const folder = opendir(folder_.c_str());
    if (folder == nullptr && errno == ENOENT) return -1;
    if (folder == nullptr) fail("cannot read", errno);
    long long newest = -1;
    while (const dirent* const entry = readdir(folder)) {
        if (const std::optional<long long> number = number_of(entry->d_name)) newest = std::max(newest, *number);
    }
    closedir(folder);
    return newest;
}

void EventLog::make_folder() const {
    for (std::size_t end = folder_.find('/', 1);; end = folder_.find('/', end + 1)) {
        const std::string part = folder_.substr(0, end);
        const bool last = end == std::string::npos, created = mkdir(part.c_str(), 0700) == 0;
        if (!created && errno != EEXIST && (last || errno != EACCES)) fail("cannot make", errno);
        if (created || last) {  // the last: another process may just have made it
            const int error = flush_names(parent_of(part));
            if (error != 0 && error != EACCES && error != EPERM) fail("cannot flush the folder of", error);
        }
        if (last) return;
    }
}

void EventLog::identify() const {
    const std::string path = folder_ + "/log.json";
    struct stat status{};
    if (stat(path.c_str(), &status) != 0) {
        std::uint8_t bytes[16];
        if (getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes))
            fail("cannot name the log in", errno);
        std::string text = "{\n  \"format\": \"mtaw_fast event log\",\n  \"version\": 1,\n  \"log\": \"";
        for (const std::uint8_t byte : bytes) {
            text += "0123456789abcdef"[byte >> 4];
            text += "0123456789abcdef"[byte & 15];
        }
        text += "\"\n}\n";
        const std::string draft = folder_ + "/.log.json." + std::to_string(getpid()) + ".tmp";
        const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0) fail("cannot write into", errno);
        const ssize_t count = ::write(file, text.data(), text.size());
        int error = count < 0                                    ? errno
                    : count != static_cast<ssize_t>(text.size()) ? ENOSPC
                    : fsync(file) != 0                           ? errno
                                                                 : 0;
        ::close(file);
        if (error == 0 && rename(draft.c_str(), path.c_str()) != 0) error = errno;
        if (error != 0) {
            unlink(draft.c_str());
            fail("cannot write into", error);
        }
    }
    bool fits = false;
    try {
        const FileBytes bytes(FileAccess::of_system(Mapping::read), path);
        const Json about = Json::parse(bytes.view());
        const Json *const version = about.find("version"), *const name = about.find("log");
        fits = version != nullptr && version->whole() == 1 && name != nullptr && name->is(Json::Kind::text);
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception&) {
        fits = false;
    }
    if (!fits) throw Failure(MTAW_LOG, path + " does not describe an event log of version 1; give another folder");
}

void EventLog::create_segment(long long number) const {
    const int file = ::open(path_of(number).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) fail("cannot write into", errno);
    ::close(file);
}

void EventLog::open_segment(long long number) {
    // Here: who created the segment may have been killed before its name was flushed.
    if (const int error = flush_names(folder_)) fail("cannot flush", error);
    const int file = ::open(path_of(number).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0) fail("cannot write into", errno);
    if (file_ >= 0) {
        fdatasync(file_);
        ::close(file_);
    }
    file_ = file;
    number_ = number;
}

void EventLog::fail(const char* what, int error, const char* advice) const {
    throw Failure(MTAW_LOG, std::string(what) + " " + folder_ + ": " + reason_of_system(error) + advice);
}

}  // namespace mtaw
