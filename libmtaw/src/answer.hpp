// What mtaw_answer points to.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ids.hpp"
#include "mtaw.h"
#include "rank/reasons.hpp"

namespace mtaw {

class Answer {
   public:
    // Of the caller's view, and of nothing else.
    static void free(mtaw_answer* view);

    // reasons: of each item, or empty. unknown: positions of clicks.
    static std::unique_ptr<Answer> of(const IdTable& ids, Arranged ranking, const std::vector<Reason>& reasons,
                                      std::vector<std::size_t> unknown, bool fallback, bool cut_short);

    // Says which set of a placement its rules were.
    void name_rule_set(const std::string& name);

    // The view, which owns the answer from now on.
    static mtaw_answer* release(std::unique_ptr<Answer> answer) { return &answer.release()->view_; }

   private:
    mtaw_answer view_{};  // first: its address is the answer's
    mtaw_id external(const IdTable& ids, std::int32_t item);

    std::vector<mtaw_id> items_;
    std::vector<mtaw_id> reason_items_;
    std::vector<mtaw_reason> reasons_;
    std::vector<float> scores_;
    std::vector<std::size_t> unknown_;
    std::string text_;
    std::string rule_set_;
};

}  // namespace mtaw
