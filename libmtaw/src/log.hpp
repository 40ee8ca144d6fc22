// The writing side of a learning log: mtaw_fast/online/log/file_log.py describes the files and reads them.
#pragma once

#include <sys/stat.h>

#include <mutex>
#include <optional>
#include <string>

#include "mtaw.h"

namespace mtaw {

// Calls wait for each other; processes share the folder by locks on its files.
class EventLog {
   public:
    // Throws Failure.
    EventLog(const std::string& folder, bool sync);
    ~EventLog();
    EventLog(const EventLog&) = delete;
    EventLog& operator=(const EventLog&) = delete;

    // Returns the position after the last event. Throws Failure.
    std::string append(const mtaw_event* events, std::size_t count);
    std::string forget(const char* session);

   private:
    class Held;

    std::string store(const std::string& lines);
    // Appends to the segment in use and returns its end; none if that segment is full, or there is a newer one.
    std::optional<off_t> written(const std::string& lines) const;
    bool is_succeeded(const struct stat& open) const;
    // The newest segment, which is created if the one before is full.
    long long next_segment() const;
    std::string path_of(long long number) const;
    long long newest_segment() const;
    void make_folder() const;
    void identify() const;
    void create_segment(long long number) const;
    void open_segment(long long number);
    [[noreturn]] void fail(const char* what, int error, const char* advice = "") const;

    std::string folder_;
    bool sync_;
    std::mutex mutex_;
    int lock_file_ = -1;
    int file_ = -1;
    long long number_ = -1;
};

}  // namespace mtaw
