// The memory tables without Python, for the sanitizers: builds by several threads, updates against rebuilds, and
// damaged tables that pass the check and must then be safe to update from. Prints one line a failure; exits 0 or 1.
#include <cstdint>
#include <cstdio>
#include <stdexcept>

#include "memory_log.hpp"

namespace {

// An update of `tables` by a few sessions against a rebuild.
void try_update(const Tables& tables, const mtaw::MemorySettings& settings) {
    const std::int64_t expired = below(tables.log.count() + 1);
    Log log = tables.log.without(expired);
    log.add(below(4));
    const mtaw::OlderTables older{tables.view(), expired};
    expect(build(log, settings, 2, &older) == build(log, settings, 1), "an update equals a rebuild");
}

// Whether the check passes a table with one bit changed; if so, an update from it must not step anywhere.
bool survives_damage(Tables tables, const mtaw::MemorySettings& settings) {
    damage_some(tables);
    try {
        tables.check(settings);
    } catch (const std::invalid_argument&) {
        return false;
    }
    const std::int64_t expired = below(3);
    Log log = tables.log.without(expired);
    log.add(1);
    const mtaw::OlderTables older{tables.view(), expired};
    build(log, settings, 2, &older);
    return true;
}

}  // namespace

int main() {
    int passed = 0, refused = 0;
    for (int round = 0; round < 40; ++round) {
        Log log;
        log.add(3 + below(60));
        const mtaw::MemorySettings settings{1 + below(12), 1 + below(40), 0.5 + static_cast<double>(below(20)),
                                            below(15), below(8)};
        const Tables tables = build(log, settings, 1);
        expect(build(log, settings, 3) == tables, "the number of threads changes nothing");
        tables.check(settings);
        try_update(tables, settings);
        for (int k = 0; k < 25; ++k) ++(survives_damage(tables, settings) ? passed : refused);
    }
    expect(passed > 50 && refused > 50, "damage is refused at times and passed at times");
    std::printf("%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
