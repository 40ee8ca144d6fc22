// A search: the queries coded, passed over the catalog together, and finished one by one.
#pragma once

#include <cstdint>
#include <vector>

#include "isa.hpp"
#include "scan/candidates.hpp"
#include "scan/kernel.hpp"
#include "scan/scanner.hpp"
#include "score/score.hpp"

namespace mtaw {

struct alignas(kLineBytes) CodeLine {
    std::uint8_t bytes[kLineBytes];
};

struct ScanScratch::State {
    std::vector<std::int8_t> codes;
    std::vector<std::int16_t> pairs;
    std::vector<std::int8_t> low_codes;
    std::vector<float> upper;
    std::vector<float> lower;
    std::vector<std::int32_t> ids;
    std::vector<Candidates> candidates;
    std::vector<ScanLane> lanes;
    BlockTails tails;
    std::vector<CodeLine> joined;  // a chunk of nested codes, whole
    std::vector<Scored> scored;
};

// Scanner::search on checked arguments.
void search_catalog(const ScanCatalog& catalog, Isa isa, const ScanRequest& request, ScanScratch::State& memory,
                    std::int32_t* ids, float* scores);

}  // namespace mtaw
