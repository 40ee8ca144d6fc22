// Batches of sessions, some of them perhaps without clicks.
#pragma once

#include <cstdint>
#include <vector>

#include "rank/engine.hpp"
#include "rank/item_lists.hpp"

namespace mtaw {

// Writes ids [B, k] and scores as Engine::rank does; a session without clicks gets the popular items. clicks: null if
// every session has clicks.
Stages rank_batch(const Engine& engine, const ItemClicks* clicks, const PackedSessions& sessions, std::int64_t k,
                  const Conditions& conditions, std::int32_t* ids, float* scores, EngineScratch& scratch);

// Some of packed sessions, packed again unless they are all.
class SelectedSessions {
   public:
    // n_context: codes of a visit.
    SelectedSessions(const PackedSessions& from, const std::vector<std::int64_t>& rows, std::int64_t n_context);
    const PackedSessions& sessions() const { return sessions_; }

   private:
    std::vector<std::int32_t> clicks_;
    std::vector<std::int64_t> offsets_, times_;
    std::vector<std::uint16_t> context_;
    std::vector<std::uint8_t> types_;
    PackedSessions sessions_;
};

}  // namespace mtaw
