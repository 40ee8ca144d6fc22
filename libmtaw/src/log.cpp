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
#include <chrono>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "failure.hpp"
#include "files.hpp"
#include "json.hpp"
#include "text.hpp"

namespace mtaw {
namespace {

constexpr off_t kSegmentBytes = 64 << 20;
constexpr std::size_t kMostRecord = 64 << 20;
constexpr std::size_t kMostText = 512, kMostValue = 200, kMostColumns = 8;  // characters, characters, columns
constexpr std::int64_t kLatest = 4'102'444'800'000, kSeconds = 1'000'000'000;
constexpr const char* kMayCount = "; some of these events may be learned all the same: send them again with their ids, so that each counts once";

constexpr std::array<std::uint32_t, 256> crc_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) value = (value & 1U) != 0 ? value >> 1 ^ 0xEDB88320U : value >> 1;
        table[i] = value;
    }
    return table;
}

std::uint32_t crc_of(std::string_view text) {
    static constexpr std::array<std::uint32_t, 256> kTable = crc_table();
    std::uint32_t value = 0xFFFFFFFFU;
    for (const char c : text) value = value >> 8 ^ kTable[(value ^ static_cast<std::uint8_t>(c)) & 0xFFU];
    return ~value;
}

std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// A text of an event. Throws Failure unless it is one.
std::string_view checked(const std::string& where, const char* name, const char* given) {
    const std::string_view text = given == nullptr ? "" : given;
    if (text.empty()) throw usage(where + ": " + name + " must be a text that is not empty");
    if (!is_utf8(text)) throw usage(where + ": " + name + " is not valid Unicode; send UTF-8");
    if (count_characters(text) > kMostText) throw usage(where + ": " + name + " has more than 512 characters");
    return text;
}

void add_item(std::string& line, const std::string& where, const mtaw_id& item) {
    if (item.text == nullptr) {
        line += std::to_string(item.value);
        return;
    }
    const std::string_view text{item.text, item.value < 0 ? std::strlen(item.text) : static_cast<std::size_t>(item.value)};
    if (text.empty() || !is_utf8(text)) throw usage(where + ": item must be a number or UTF-8 text that is not empty");
    if (count_characters(text) > kMostText) throw usage(where + ": item has more than 512 characters");
    write_json_text(line, text, false);
}

void add_context(std::string& line, const std::string& where, const mtaw_event& event) {
    if (event.n_context > 0 && event.context == nullptr) throw usage(where + ": context is NULL, but not empty");
    if (event.n_context > kMostColumns) throw usage(where + ": context has more than 8 columns");
    bool first = true;
    for (std::size_t i = 0; i < event.n_context; ++i) {
        const std::string_view name = event.context[i].name == nullptr ? "" : event.context[i].name;
        const std::string_view value = event.context[i].value == nullptr ? "" : event.context[i].value;
        if (!is_utf8(name) || !is_utf8(value)) throw usage(where + ": context is not valid Unicode; send UTF-8");
        if (count_characters(value) > kMostValue) throw usage(where + ": context: " + shown(name) + " has more than 200 characters");
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
    if (time < 0 || time > kLatest) throw usage(where + ": time " + std::to_string(time) + " must be Unix milliseconds from 1970 to 2100");
    if (time >= kSeconds && time <= kLatest / 1000) throw usage(where + ": time " + std::to_string(time) + " looks like seconds; send milliseconds");
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

void add_record(std::string& out, const std::string& line) {
    if (line.size() > kMostRecord) throw usage("an event of " + std::to_string(line.size()) + " bytes is too large for the log");
    char frame[16];
    std::snprintf(frame, sizeof frame, "%08x ", static_cast<unsigned>(crc_of(line)));
    out += frame;
    out += line;
    out += '\n';
}

// The number of events-<number>.log; none for another name.
std::optional<long long> number_of(std::string_view name) {
    constexpr std::string_view kBefore = "events-", kAfter = ".log";
    if (!name.starts_with(kBefore) || !name.ends_with(kAfter) || name.size() < kBefore.size() + 10 + kAfter.size()) return std::nullopt;
    const char *const begin = name.data() + kBefore.size(), *const end = name.data() + name.size() - kAfter.size();
    long long number = 0;
    const auto [stopped, error] = std::from_chars(begin, end, number);
    if (error != std::errc() || stopped != end || *begin == '-') return std::nullopt;
    return number;
}

}  // namespace

EventLog::EventLog(const std::string& folder, bool sync) : folder_(folder), sync_(sync) {
    make_folder();
    lock_file_ = ::open((folder_ + "/.append.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock_file_ < 0) fail("cannot open the lock of", errno);
    try {
        lock(LOCK_EX);
        identify();
        if (newest_segment() < 0) create_segment(0);
        lock(LOCK_UN);
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
    for (std::size_t i = 0; i < count; ++i) add_record(lines, line_of(events[i], "event " + std::to_string(i)));
    return store(lines);
}

std::string EventLog::forget(const char* session) {
    std::string line = "{\"forget\":", lines = "\n";
    write_json_text(line, checked("forget", "session", session), false);
    add_record(lines, line + ",\"time\":" + std::to_string(now()) + "}");
    return store(lines);
}

std::string EventLog::store(const std::string& lines) {
    const std::lock_guard guard(mutex_);
    for (;;) {
        lock(LOCK_SH);  // nobody creates the next segment now
        struct stat open {}, named {};
        const bool there = stat(path_of(number_).c_str(), &named) == 0 && fstat(file_, &open) == 0 && open.st_ino == named.st_ino && open.st_dev == named.st_dev;
        const bool newest = newest_segment() == number_;
        if (newest && !there) {
            lock(LOCK_UN);
            throw Failure(MTAW_LOG, path_of(number_) + " was removed or replaced while it was in use; restore the log, then start again");
        }
        if (newest && open.st_size < kSegmentBytes) break;
        lock(LOCK_UN);
        lock(LOCK_EX);
        const long long last = newest_segment();
        struct stat full {};
        if (last < 0 || stat(path_of(last).c_str(), &full) != 0) {
            lock(LOCK_UN);
            throw Failure(MTAW_LOG, "the log in " + folder_ + " was removed while it was in use; restore it, then start again");
        }
        if (full.st_size >= kSegmentBytes) create_segment(last + 1);
        lock(LOCK_UN);
        open_segment(newest_segment());
    }
    ssize_t written;
    do {
        written = ::write(file_, lines.data(), lines.size());
    } while (written < 0 && errno == EINTR);
    const int error = errno;
    const off_t end = lseek(file_, 0, SEEK_CUR);
    lock(LOCK_UN);
    if (written < 0) fail("cannot append to the log in", error, kMayCount);
    if (static_cast<std::size_t>(written) != lines.size()) {
        throw Failure(MTAW_LOG, "the log in " + folder_ + " is full: " + std::to_string(written) + " of " + std::to_string(lines.size()) +
                                    " bytes were written; free some space" + kMayCount);
    }
    if (sync_ && fdatasync(file_) != 0) fail("cannot flush the log in", errno, kMayCount);
    char position[MTAW_POSITION_SIZE];
    std::snprintf(position, sizeof position, "%010lld-%012lld", number_, static_cast<long long>(end));
    return position;
}

std::string EventLog::path_of(long long number) const {
    char name[64];
    std::snprintf(name, sizeof name, "/events-%010lld.log", number);
    return folder_ + name;
}

long long EventLog::newest_segment() const {
    DIR* const folder = opendir(folder_.c_str());
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
        if (!part.empty() && mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && (end == std::string::npos || errno != EACCES)) fail("cannot make", errno);
        if (end == std::string::npos) return;
    }
}

void EventLog::identify() const {
    const std::string path = folder_ + "/log.json";
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) {
        std::uint8_t bytes[16];
        if (getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) fail("cannot name the log in", errno);
        std::string text = "{\n  \"format\": \"mtaw_fast event log\",\n  \"version\": 1,\n  \"log\": \"";
        for (const std::uint8_t byte : bytes) {
            text += "0123456789abcdef"[byte >> 4];
            text += "0123456789abcdef"[byte & 15];
        }
        text += "\"\n}\n";
        const std::string draft = folder_ + "/.log.json." + std::to_string(getpid()) + ".tmp";
        const int file = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0) fail("cannot write into", errno);
        const bool whole = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(file) == 0;
        ::close(file);
        if (!whole || rename(draft.c_str(), path.c_str()) != 0) {
            const int error = errno;
            unlink(draft.c_str());
            fail("cannot write into", error);
        }
    }
    bool fits = false;
    try {
        const FileBytes bytes(FileAccess::of(nullptr, false), path);
        const Json about = Json::parse(bytes.view());
        const Json *const version = about.find("version"), *const name = about.find("log");
        fits = version != nullptr && version->whole() == 1 && name != nullptr && name->is(Json::Kind::text);
    } catch (const std::exception&) {
        fits = false;
    }
    if (!fits) throw Failure(MTAW_LOG, path + " does not describe an event log of version 1; give another folder");
}

void EventLog::create_segment(long long number) const {
    const int file = ::open(path_of(number).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) fail("cannot write into", errno);
    ::close(file);
    const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail("cannot read", errno);
    const bool flushed = fsync(folder) == 0;
    ::close(folder);
    if (!flushed) fail("cannot flush", errno);
}

void EventLog::open_segment(long long number) {
    const int file = ::open(path_of(number).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0) fail("cannot write into", errno);
    if (file_ >= 0) {
        fdatasync(file_);
        ::close(file_);
    }
    file_ = file;
    number_ = number;
}

void EventLog::lock(int how) const {
    int failed;
    do {
        failed = flock(lock_file_, how);
    } while (failed != 0 && errno == EINTR);
    if (failed != 0) fail("cannot lock", errno);
}

void EventLog::fail(const char* what, int error, const char* then) const {
    throw Failure(MTAW_LOG, std::string(what) + " " + folder_ + ": " + reason_of_system(error) + then);
}

}  // namespace mtaw
